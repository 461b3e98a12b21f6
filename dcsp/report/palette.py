"""The colours of classes on pages: what two of them are, people can tell apart on photographs.

The VOC palette, which label files have, was made to be read by programs: its classes 1 and 9 are
two dark reds. Here every colour is as far as can be from those of lower ids, from black, white and
grey, to people who have all cones. What those see who lack one kind counts a quarter, so that the
first classes have hues of their own: to these people not all colours differ.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dcsp.labels import BACKGROUND, IGNORE

_STEPS = 16
"""Levels of each channel among which colours are looked for."""
_LIGHTNESS, _CHROMA = (0.6, 0.93), 0.14
"""Of candidates: neither as dark as shadows nor as pale as skies, and no greys (OKLab)."""
_TO_CONES = np.array(
    [
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    ]
)
_TO_LAB = np.array(
    [
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    ]
)
"""From linear RGB to responses of cones, and from their cube roots to OKLab (Ottosson 2020)."""
_BLINDNESS = (
    np.array([(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
              (-0.003882, -0.048116, 1.051998)]),
    np.array([(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
              (-0.011820, 0.042940, 0.968881)]),
)  # fmt: skip
"""Linear RGB as protanopes and deuteranopes see it (Machado, Oliveira and Fernandes 2009)."""


@cache
def class_colours() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB by class id: black background, white 255, and no colour twice."""
    levels = np.linspace(0, 255, _STEPS).round()
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _seen(rgb)
    lightness, chroma = seen[:, 0], np.hypot(seen[:, 1], seen[:, 2])
    low, high = _LIGHTNESS
    is_fit = (lightness > low) & (lightness < high) & (chroma > _CHROMA)
    rgb, seen = rgb[is_fit], seen[is_fit]
    greys = _seen(np.repeat(levels[:, None], 3, axis=1))
    nearest = np.linalg.norm(seen[:, None] - greys[None], axis=-1).min(axis=1)
    colours = np.zeros((256, 3), np.uint8)
    colours[IGNORE] = 255
    for class_id in range(BACKGROUND + 1, IGNORE):
        chosen = int(nearest.argmax())
        colours[class_id] = rgb[chosen]
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[chosen], axis=1))
    return colours


def _seen(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (n, 3) in 0-255 as (n, 9): OKLab of all cones, then, halved, of two kinds alone."""
    linear = np.where(rgb <= 10.31475, rgb / 3294.6, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    halves = [0.5 * _oklab((linear @ matrix.T).clip(0, 1)) for matrix in _BLINDNESS]
    return np.concatenate([_oklab(linear), *halves], axis=1)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    lab: NDArray[np.float64] = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab
