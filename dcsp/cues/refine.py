"""Cues with the dense CRF in place of a threshold or a plain argmax (method 5).

Maps come at any size and are brought to the image; an image with a side longer than ``max_side``
is worked on at that size, and its labels are resized to the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.config import CRFSettings
from dcsp.cues.fusion import harmonic_mean, tagged_scores, to_image
from dcsp.images import limit_side, resize_labels, resize_map, resize_rgb
from dcsp.inference.crf import DenseCRF, dense_crf
from dcsp.inference.scores import softmax, winning_label
from dcsp.labels import BACKGROUND, IGNORE

_TINY = np.finfo(np.float32).tiny


def refine_cue(
    image: NDArray[np.uint8],
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    tags: Sequence[int],
    gamma_low: float,
    gamma_high: float,
    crf: CRFSettings,
    max_side: int | None = None,
) -> NDArray[np.uint8]:
    """Algorithm 1 with the dense CRF in place of the threshold.

    The CRF starts from the squared harmonic means, with γ² as the background's. With an ignored
    band it runs for both γ: a pixel has a class where one wins against ``gamma_high``, is
    background where that wins with ``gamma_low``, and is ignored elsewhere.

    Args:
        image: HWC uint8 RGB.
        attention: nhw float32, one map a tag.
        saliency: hw float32 in [0, 1].
        tags: n class ids, sorted and unique.
        gamma_low: Score that background must win with.
        gamma_high: Background score that a class must win against.
        crf: Kernels and iterations.
        max_side: Longest side to work at, in pixels.

    Returns:
        HW uint8: 0, a tag, or 255; all 0 without tags.

    Raises:
        ValueError: There is not one attention map for each tag.
    """
    if not len(tags):
        return np.zeros(image.shape[:2], np.uint8)
    seen = _limit(image, max_side)
    means = harmonic_mean(*to_image(attention, saliency, *seen.shape[:2]))
    ids = (BACKGROUND, *tags)
    field = DenseCRF(seen, len(ids), crf)
    labels, _ = winning_label(field(_probabilities(means, gamma_high)), ids)
    if gamma_low < gamma_high:
        lenient, _ = winning_label(field(_probabilities(means, gamma_low)), ids)
        labels[(labels == BACKGROUND) != (lenient == BACKGROUND)] = IGNORE
    return resize_labels(labels, *image.shape[:2])


def refine_adapted(
    image: NDArray[np.uint8],
    scores: NDArray[np.float32],
    tags: Sequence[int],
    crf: CRFSettings,
    max_side: int | None = None,
) -> NDArray[np.uint8]:
    """Cues of adaptation, with the dense CRF on the softmax over background and tags.

    Args:
        image: HWC uint8 RGB.
        scores: (C+1)hw float32 logits, fused over views; channel 0 the background.
        tags: Class ids, sorted and unique.
        crf: Kernels and iterations.
        max_side: Longest side to work at, in pixels.

    Returns:
        HW uint8: 0 or a tag; all 0 without tags.

    Raises:
        ValueError: A tag has no channel.
    """
    if not len(tags):
        return np.zeros(image.shape[:2], np.uint8)
    seen = _limit(image, max_side)
    probabilities = softmax(resize_map(tagged_scores(scores, tags), *seen.shape[:2]))
    labels, _ = winning_label(dense_crf(seen, probabilities, crf), (BACKGROUND, *tags))
    return resize_labels(labels, *image.shape[:2])


def _limit(image: NDArray[np.uint8], max_side: int | None) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    size = limit_side(height, width, max_side)
    return image if size == (height, width) else resize_rgb(image, *size)


def _probabilities(means: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """(1+n)HW: squared γ and harmonic means, normalised over labels."""
    background = np.full((1, *means.shape[1:]), gamma, np.float32)
    squares = np.concatenate([background, means])
    squares *= squares
    squares /= np.maximum(squares.sum(axis=0), _TINY)
    return squares
