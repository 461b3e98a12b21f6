"""Attention and saliency to cues: Algorithm 1 of the paper (4.2), and cues of adaptation (4.3).

Saliency is common to all classes, so the class with the highest mean is the class with the highest
attention: saliency decides only what is background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.config import CRFSettings, DCSPSettings
from dcsp.config.base import Fuse
from dcsp.config.cues import Mean
from dcsp.cues.attention import normalize_attention, select_tags
from dcsp.images.resize import resize_map
from dcsp.inference.crf import DenseCRF, dense_crf
from dcsp.inference.scores import probabilities, winning_label
from dcsp.labels import BACKGROUND, IGNORE

_TINY = np.finfo(np.float32).tiny


def harmonic_mean(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """2ab / (a + b) of maps in [0, 1] of broadcastable shapes, and 0 where both are 0."""
    product = first * second
    product *= 2
    total = first + second
    product /= np.maximum(total, _TINY, out=total)
    return product


def fuse(
    attention: NDArray[np.float32], saliency: NDArray[np.float32], mean: Mean = "harmonic"
) -> NDArray[np.float32]:
    """How strongly each pixel belongs to each tag: the mean of attention and saliency.

    The harmonic mean (the paper's) asks for both. The geometric and the arithmetic one are of
    saliency and the strongest attention, and the tags share it in proportion to their attention,
    since saliency says nothing about them: the geometric one asks for both, too; the arithmetic one
    lets either speak up for the other, and where no tag has any attention there is no object.

    Args:
        attention: nHW float32 in [0, 1], one map a tag, at least one.
        saliency: HW float32 in [0, 1].
        mean: Which of the two.

    Returns:
        nHW float32 in [0, 1]; the same tag is strongest as in ``attention``.
    """
    if mean == "harmonic":
        return harmonic_mean(attention, saliency)
    strongest = attention.max(axis=0)
    shares: NDArray[np.float32] = attention / np.maximum(strongest, _TINY)
    if mean == "geometric":
        shares *= np.sqrt(strongest * saliency)
    else:
        shares *= (strongest + saliency) / 2
    return shares


def to_image(
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    height: int,
    width: int,
    normalize: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bring attention and saliency to the image, as :func:`discover` and :func:`refine_cue` want.

    Args:
        attention: nhw float32, as a cue table holds it; of any range where it is normalised.
        saliency: hw float32 in [0, 1] of any size.
        height: Image height in pixels.
        width: Image width in pixels.
        normalize: Min-max normalise each attention map over the image.

    Returns:
        nHW attention and HW saliency, both float32 in [0, 1].
    """
    full = resize_map(attention, height, width, corners=True)
    return normalize_attention(full) if normalize else full, resize_map(saliency, height, width)


def discover(
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    tags: Sequence[int],
    gamma_low: float,
    gamma_high: float,
    mean: Mean = "harmonic",
) -> NDArray[np.uint8]:
    """Algorithm 1: the class with the highest mean of attention and saliency.

    Args:
        attention: nHW float32 in [0, 1], one map a tag.
        saliency: HW float32 in [0, 1].
        tags: n class ids, sorted and unique.
        gamma_low: Means below this are background.
        gamma_high: Those from ``gamma_low`` up to this are ignored.
        mean: See :func:`fuse`.

    Returns:
        HW uint8: 0, a tag, or 255; all 0 without tags. Where two classes are equal, the earlier.

    Raises:
        ValueError: Shapes and tags do not belong together.
    """
    _require_fit(attention, saliency, tags)
    if not len(tags):
        return np.zeros(saliency.shape, np.uint8)
    labels, strongest = winning_label(attention, tags)
    fused = fuse(strongest[None], saliency, mean)[0]
    if gamma_low < gamma_high:
        np.putmask(labels, fused < gamma_high, IGNORE)
    np.putmask(labels, fused < gamma_low, BACKGROUND)
    return labels


def refine_cue(
    image: NDArray[np.uint8],
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    tags: Sequence[int],
    gamma_low: float,
    gamma_high: float,
    crf: CRFSettings,
    mean: Mean = "harmonic",
) -> NDArray[np.uint8]:
    """Algorithm 1 with the dense CRF in place of the threshold.

    The CRF starts from the squared means, with γ² as the background's. With an ignored
    band it runs for both γ: a pixel has a class where one wins against ``gamma_high``, is
    background where that wins with ``gamma_low``, and is ignored elsewhere.

    Args:
        image: HWC uint8 RGB.
        attention: nHW float32 in [0, 1], one map a tag.
        saliency: HW float32 in [0, 1].
        tags: n class ids, sorted and unique.
        gamma_low: Score that background must win with.
        gamma_high: Background score that a class must win against.
        crf: Kernels and iterations.
        mean: See :func:`fuse`.

    Returns:
        HW uint8: 0, a tag, or 255; all 0 without tags.

    Raises:
        ValueError: Shapes and tags do not belong together.
    """
    _require_fit(attention, saliency, tags)
    if not len(tags):
        return np.zeros(saliency.shape, np.uint8)
    means = fuse(attention, saliency, mean)
    ids = (BACKGROUND, *tags)
    field = DenseCRF(image, len(ids), crf)
    labels, _ = winning_label(field(_cue_probabilities(means, gamma_high)), ids)
    if gamma_low < gamma_high:
        lenient, _ = winning_label(field(_cue_probabilities(means, gamma_low)), ids)
        labels[(labels == BACKGROUND) != (lenient == BACKGROUND)] = IGNORE
    return labels


def algorithm_1(
    attention: NDArray[np.float32],
    saliency: NDArray[np.float32],
    tags: Sequence[int],
    settings: DCSPSettings,
    image: Callable[[], NDArray[np.uint8]],
    crf: CRFSettings | None,
) -> NDArray[np.uint8]:
    """:func:`discover` or :func:`refine_cue`, by the settings of the rule.

    Args:
        attention: nHW float32 in [0, 1], one map a tag.
        saliency: HW float32 in [0, 1].
        tags: n class ids, sorted and unique.
        settings: γ and the mean are used.
        image: Gives the image, HWC uint8 RGB; asked by the CRF alone.
        crf: Its kernels and iterations; None: without it.

    Returns:
        HW uint8: 0, a tag, or 255.

    Raises:
        ValueError: Shapes and tags do not belong together.
    """
    low, high, mean = settings.gamma_low, settings.gamma_high, settings.mean
    if crf is None:
        return discover(attention, saliency, tags, low, high, mean)
    return refine_cue(image(), attention, saliency, tags, low, high, crf, mean)


def adapt_labels(
    scores: NDArray[np.float32], tags: Sequence[int], height: int, width: int
) -> NDArray[np.uint8]:
    """The network's own labels among background and tags; absent classes cannot win (paper 4.3).

    Args:
        scores: (C+1)hw float32 logits or probabilities, fused over views; channel 0 the background.
        tags: Class ids, sorted and unique.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        HW uint8: 0 or a tag.

    Raises:
        ValueError: A tag has no channel.
    """
    ids = (BACKGROUND, *tags)
    full = resize_map(_tagged_scores(scores, tags), height, width, corners=True)
    return winning_label(full, ids)[0]


def refine_adapted(
    image: NDArray[np.uint8],
    scores: NDArray[np.float32],
    tags: Sequence[int],
    crf: CRFSettings,
    fuse: Fuse = "max",
) -> NDArray[np.uint8]:
    """As :func:`adapt_labels`, with the dense CRF on probabilities among background and tags.

    Args:
        image: HWC uint8 RGB.
        scores: (C+1)hw float32 logits or probabilities, fused over views; channel 0 the background.
        tags: Class ids, sorted and unique.
        crf: Kernels and iterations.
        fuse: How views were fused: with ``mean``, ``scores`` are probabilities.

    Returns:
        HW uint8: 0 or a tag; all 0 without tags.

    Raises:
        ValueError: A tag has no channel.
    """
    if not len(tags):
        return np.zeros(image.shape[:2], np.uint8)
    full = resize_map(_tagged_scores(scores, tags), *image.shape[:2], corners=True)
    shares = probabilities(full, fuse)
    labels, _ = winning_label(dense_crf(image, shares, crf), (BACKGROUND, *tags))
    return labels


def _tagged_scores(scores: NDArray[np.float32], tags: Sequence[int]) -> NDArray[np.float32]:
    """Background and tagged channels, (1+n)hw, of (C+1)hw scores: absent classes are left out.

    That is the same as −inf for them, without upsampling them.
    """
    return np.concatenate([scores[:1], select_tags(scores, tags, "scores")])


def _cue_probabilities(means: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """(1+n)HW: squared γ and means, normalised over labels."""
    background = np.full((1, *means.shape[1:]), gamma, np.float32)
    squares = np.concatenate([background, means])
    squares *= squares
    squares /= np.maximum(squares.sum(axis=0), _TINY)
    return squares


def _require_fit(
    attention: NDArray[np.float32], saliency: NDArray[np.float32], tags: Sequence[int]
) -> None:
    if attention.shape != (len(tags), *saliency.shape):
        raise ValueError(
            f"Attention of shape {attention.shape} does not fit {len(tags)} tags and saliency of "
            f"shape {saliency.shape}."
        )
