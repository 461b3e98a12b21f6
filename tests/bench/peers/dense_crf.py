"""pydensecrf as its examples use it: every label of the data set, whatever the image shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydensecrf.densecrf as pydensecrf
from numpy.typing import NDArray


def all_labels(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], iterations: int = 10
) -> NDArray[np.uint8]:
    """DeepLab's CRF over all maps (LHW): the most probable label of each pixel (HW)."""
    labels, height, width = probabilities.shape
    field = pydensecrf.DenseCRF2D(width, height, labels)
    unary = -np.log(np.clip(probabilities, 1e-8, 1.0)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=49, srgb=5, rgbim=np.ascontiguousarray(image), compat=4)
    refined = np.array(field.inference(iterations)).reshape(labels, height, width)
    best: NDArray[np.uint8] = refined.argmax(axis=0).astype(np.uint8)
    return best


def cue_probabilities(
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    tags: Sequence[int],
    gamma: float,
    labels: int,
) -> NDArray[np.float32]:
    """Squared harmonic means over all labels (LHW), γ² the background's, absent classes 0."""
    scores = np.zeros((labels, *saliency.shape), np.float32)
    scores[0] = gamma
    for tag, strength in zip(tags, attention, strict=True):
        scores[tag] = 2 * strength * saliency / np.maximum(strength + saliency, 1e-12)
    scores **= 2
    scores /= scores.sum(axis=0)
    return scores
