"""From fused scores to a predicted label map, with and without the dense CRF (method 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from dcsp.config import PredictSettings
from dcsp.images.resize import limit_side, resize_labels, resize_map, resize_rgb
from dcsp.inference.crf import crf_labels
from dcsp.inference.scores import probabilities, upsampled_winners, winning_label
from dcsp.labels import IGNORE

Area = TypedDict("Area", {"class": int, "pixels": int, "confidence": float})
"""One class of a label map: its id, its pixels, and its mean probability in them before the CRF."""


@dataclass(frozen=True)
class Prediction:
    """The labels of one image.

    Attributes:
        label: HW uint8 of class ids, after the CRF where it is on.
        label_without_crf: HW uint8 of class ids; equal to ``label`` where the CRF is off.
        areas: One entry for each class in ``label``, background included, in id order.
    """

    label: NDArray[np.uint8]
    label_without_crf: NDArray[np.uint8]
    areas: list[Area]


def predict_labels(
    scores: NDArray[np.float32],
    height: int,
    width: int,
    settings: PredictSettings,
    image: Callable[[], NDArray[np.uint8]],
    max_side: int | None = None,
) -> Prediction:
    """Upsample fused scores to the image, probabilities, CRF, argmax.

    An image with a side longer than ``max_side`` is labelled at the size the network saw, and its
    labels are resized to the nearest.

    Args:
        scores: (C+1)hw float32, channel 0 the background: as :func:`score_views` fused the views
            of ``settings``, logits or probabilities.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        settings: How views were fused, whether to use the CRF, and how.
        image: Gives the image, HWC uint8 RGB; asked by the CRF alone.
        max_side: The network's longest side at scale 1 in pixels.

    Returns:
        Labels of the image's own size.
    """
    inner = limit_side(height, width, max_side)
    if settings.crf:
        seen = image()
        seen = seen if inner == (height, width) else resize_rgb(seen, *inner)
        label, plain, confidences = _refined(scores, seen, settings)
    else:
        label, certainty = upsampled_winners(scores, *inner, settings.fuse)
        plain, confidences = label, _means(label, certainty)
    if inner != (height, width):
        unrefined = plain is label
        label = resize_labels(label, height, width)
        plain = label if unrefined else resize_labels(plain, height, width)
    return Prediction(label, plain, list_areas(label, confidences))


def list_areas(label: NDArray[np.uint8], confidences: Mapping[int, float]) -> list[Area]:
    """The classes of a label map, in the order of ``confidences``.

    Args:
        label: HW uint8 of class ids, and perhaps 255.
        confidences: Class id → how sure its pixels are.
    """
    pixels = np.bincount(label.ravel(), minlength=IGNORE)
    return [
        {"class": id_, "pixels": int(pixels[id_]), "confidence": confidence}
        for id_, confidence in confidences.items()
        if pixels[id_]
    ]


def _refined(
    scores: NDArray[np.float32], image: NDArray[np.uint8], settings: PredictSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[int, float]]:
    """Labels with and without the CRF, and how sure the network was of the former."""
    shares = probabilities(resize_map(scores, *image.shape[:2], corners=True), settings.fuse)
    ids = range(len(scores))
    plain, _ = winning_label(shares, ids)
    label = crf_labels(image, shares, ids, settings.crf_settings)
    return label, plain, mean_confidences(label, shares, ids)


def _means(label: NDArray[np.uint8], values: NDArray[np.float32]) -> dict[int, float]:
    """Mean value in the pixels of each label, in id order."""
    flat = label.ravel()
    pixels, sums = np.bincount(flat), np.bincount(flat, weights=values.ravel())
    return {int(id_): float(sums[id_] / pixels[id_]) for id_ in np.flatnonzero(pixels)}


def mean_confidences(
    label: NDArray[np.uint8], probabilities: NDArray[np.float32], ids: Sequence[int]
) -> dict[int, float]:
    """Mean probability of each label in its own pixels.

    Args:
        label: HW uint8.
        probabilities: LHW float32.
        ids: The label of each of the L maps.
    """
    present = set(np.flatnonzero(np.bincount(label.ravel())).tolist())
    return {
        id_: float(share[label == id_].mean())
        for id_, share in zip(ids, probabilities, strict=True)
        if id_ in present
    }
