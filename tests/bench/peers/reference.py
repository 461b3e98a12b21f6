"""The authors' order of work, re-enacted from the method: one image and one pixel at a time.

Saliency maps of whole images are combined and erased by loops over pixels and kept as float64
``.npz`` files; attention is kept as float32, one map of image size a tag; a second program reads
both and writes the cue. Written for the benchmark from ``method.md``, without the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

MEAN_COLOUR = (123, 117, 104)


def combine(earlier: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """S_k = max(S_{k-1}, s_k)."""
    height, width = found.shape
    combined = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            combined[y, x] = max(earlier[y, x], found[y, x])
    return combined


def erase(
    image: NDArray[np.uint8], found: NDArray[np.float64], threshold: float
) -> NDArray[np.uint8]:
    """The image of the next pass."""
    erased = image.copy()
    height, width = found.shape
    for y in range(height):
        for x in range(width):
            if found[y, x] > threshold:
                erased[y, x] = MEAN_COLOUR
    return erased


def discover(
    attention: NDArray[np.float32],
    saliency: NDArray[np.float64],
    tags: Sequence[int],
    gamma: float,
) -> NDArray[np.uint8]:
    """Algorithm 1."""
    height, width = saliency.shape
    cue = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            best, label = -1.0, 0
            for index, tag in enumerate(tags):
                a, s = attention[index, y, x], saliency[y, x]
                mean = 2 * a * s / (a + s) if a + s > 0 else 0.0
                if mean > best:
                    best, label = mean, tag
            cue[y, x] = label if best >= gamma else 0
    return cue


def attention_at_image(
    attention: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Fused attention of the tagged classes, upsampled and min-max normalised."""
    maps = torch.from_numpy(attention)[None]
    full = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)[0].numpy()
    low, high = full.min(axis=(1, 2), keepdims=True), full.max(axis=(1, 2), keepdims=True)
    normalised: NDArray[np.float32] = (full - low) / np.maximum(high - low, 1e-12)
    return normalised


def save_saliency(folder: Path, name: str, saliency: NDArray[np.float64]) -> Path:
    """The last S_k of an image."""
    path = folder / f"{name}_saliency.npz"
    np.savez(path, saliency=saliency)
    return path


def save_attention(folder: Path, name: str, attention: NDArray[np.float32]) -> Path:
    """The attention of an image, one map a tag."""
    path = folder / f"{name}_attention.npz"
    np.savez(path, attention=attention)
    return path


def save_cue(folder: Path, name: str, cue: NDArray[np.uint8]) -> Path:
    """The cue of an image."""
    path = folder / f"{name}.png"
    Image.fromarray(cue).save(path)
    return path


def mine(
    folder: Path,
    name: str,
    image: NDArray[np.uint8],
    detect: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    attend: Callable[[], NDArray[np.float32]],
    thresholds: Sequence[float],
    tags: Sequence[int],
    gamma: float,
) -> NDArray[np.uint8]:
    """All of it for one image.

    Args:
        folder: Where the files go.
        name: Of the image.
        image: HWC uint8 RGB.
        detect: What the detector finds in an image, HW in [0, 1] at image size.
        attend: Fused maps of the tagged classes, nhw.
        thresholds: τ_k.
        tags: n class ids.
        gamma: Least harmonic mean of a foreground pixel.
    """
    height, width = image.shape[:2]
    saliency = np.zeros((height, width))
    erased = image
    for threshold in (*thresholds, None):
        found = detect(erased)
        saliency = combine(saliency, found)
        if threshold is not None:
            erased = erase(erased, found, threshold)
    saliency_file = save_saliency(folder, name, saliency)
    attention_file = save_attention(folder, name, attention_at_image(attend(), height, width))
    with np.load(saliency_file) as kept_saliency, np.load(attention_file) as kept_attention:
        cue = discover(kept_attention["attention"], kept_saliency["saliency"], tags, gamma)
    save_cue(folder, name, cue)
    return cue
