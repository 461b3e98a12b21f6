"""From fused scores to a predicted label map, with and without the dense CRF (method 1.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from dcsp.config import PredictSettings
from dcsp.images import limit_side, resize_labels, resize_map, resize_rgb
from dcsp.inference.crf import crf_labels
from dcsp.inference.scores import probabilities, winning_label

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
    image: NDArray[np.uint8],
    scores: NDArray[np.float32],
    settings: PredictSettings,
    max_side: int | None = None,
) -> Prediction:
    """Upsample fused scores to the image, probabilities, CRF, argmax.

    An image with a side longer than ``max_side`` is labelled at the size the network saw, and its
    labels are resized to the nearest.

    Args:
        image: HWC uint8 RGB.
        scores: (C+1)hw float32, channel 0 the background: as :func:`score_views` fused the views
            of ``settings``, logits or probabilities.
        settings: How views were fused, whether to use the CRF, and how.
        max_side: The network's longest side at scale 1 in pixels.

    Returns:
        Labels of the image's own size.
    """
    height, width = image.shape[:2]
    inner = limit_side(height, width, max_side)
    shares = probabilities(resize_map(scores, *inner, corners=True), settings.fuse)
    ids = range(len(scores))
    plain, _ = winning_label(shares, ids)
    label = plain
    if settings.crf:
        seen = image if inner == (height, width) else resize_rgb(image, *inner)
        label = crf_labels(seen, shares, ids, settings.crf_settings)
    confidences = _confidences(label, shares)
    if inner != (height, width):
        label, plain = (resize_labels(part, height, width) for part in (label, plain))
    pixels = np.bincount(label.ravel(), minlength=len(scores))
    areas: list[Area] = [
        {"class": id_, "pixels": int(pixels[id_]), "confidence": confidence}
        for id_, confidence in confidences.items()
        if pixels[id_]
    ]
    return Prediction(label, plain, areas)


def _confidences(label: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> dict[int, float]:
    """Mean probability of each label in its own pixels, in id order."""
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=len(probabilities)))
    return {int(id_): float(probabilities[id_][label == id_].mean()) for id_ in present}
