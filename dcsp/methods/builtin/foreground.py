"""Built-in priors (Saleh et al. 2016; method 4): foreground from a classifier's own activations.

Units of the deeper stages answer to objects, so their mean over channels says where foreground is
without any saliency detector. A dense CRF turns it into a mask; class-specific localisation maps
share that among the tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcsp.config import CRFSettings
from dcsp.cues.attention import normalize_attention
from dcsp.images.resize import resize_map
from dcsp.inference.crf import dense_crf
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND

Sign = Literal["positive", "absolute", "signed"]
Features = Tensor | NDArray[np.floating]

_TINY = np.finfo(np.float32).tiny


def stage_mean(features: Features, sign: Sign = "positive") -> NDArray[np.float32]:
    """Mean over the channels of one stage.

    Backbones whose stages end in a ReLU give the same for every ``sign``. Those with linear
    bottlenecks (EfficientNet) do not: their signed means nearly cancel.

    Args:
        features: Khw float, a stage of :meth:`dcsp.networks.base.Backbone.forward` of one image.
        sign: ``positive``: as after a ReLU; ``absolute``: magnitudes; ``signed``: as they are.

    Returns:
        hw float32.

    Raises:
        ValueError: The features are not Khw.
    """
    if features.ndim != 3:
        raise ValueError(f"Features must be Khw, got the shape {tuple(features.shape)}.")
    values = torch.as_tensor(features).detach().float()
    if sign == "positive":
        values = values.clamp(min=0)
    elif sign == "absolute":
        values = values.abs()
    mean: NDArray[np.float32] = values.mean(dim=0).cpu().numpy()
    return mean


def fuse_activations(
    fourth: Features, fifth: Features, height: int, width: int, sign: Sign = "positive"
) -> NDArray[np.float32]:
    """The foreground map: channel means of the two deepest stages, added up at image size.

    Each is min-max normalised before, so that both count alike whatever their units.

    Args:
        fourth: Khw float, stage 4; the outermost cells are centred on the outermost pixels.
        fifth: The same of stage 5; K, h and w may differ.
        height: Image height in pixels.
        width: Image width in pixels.
        sign: See :func:`stage_mean`.

    Returns:
        HW float32, min-max normalised to [0, 1]; all 0 where nothing stands out.

    Raises:
        ValueError: Features are not Khw.
    """
    fused = np.zeros((height, width), np.float32)
    for stage in (fourth, fifth):
        # Normalised before resizing, whose rounding must not look like a contrast.
        mean = normalize_attention(stage_mean(stage, sign)[None])[0]
        fused += resize_map(mean, height, width, corners=True)
    normalized: NDArray[np.float32] = normalize_attention(fused[None])[0]
    return normalized


def foreground_mask(
    image: NDArray[np.uint8],
    foreground: NDArray[np.float32],
    crf: CRFSettings,
    threshold: float = 0.3,
) -> NDArray[np.float32]:
    """The foreground map after a dense CRF of two labels.

    Args:
        image: HWC uint8 RGB.
        foreground: HW float32 in [0, 1], as from :func:`fuse_activations`.
        crf: Kernels and iterations.
        threshold: The value, between 0 and 1, that is as likely foreground as background.

    Returns:
        HW float32 probability of foreground, mostly close to 0 or 1; it is above 0.5 in the mask.

    Raises:
        ValueError: Image and map do not fit each other, or the threshold is not between 0 and 1.
    """
    probability = recentre(foreground, threshold)
    both = np.stack([1 - probability, probability])
    refined: NDArray[np.float32] = dense_crf(image, both, crf)[1]
    return refined


def multi_class(
    localisation: NDArray[np.float32],
    foreground: NDArray[np.float32],
    tags: Sequence[int],
    threshold: float = 0.3,
    exponent: float = 2.0,
) -> NDArray[np.float32]:
    """Share the foreground among the tagged classes.

    A pixel is an object's as far as both the prior and the strongest localisation map say so: the
    geometric mean of the two, recentred at ``threshold``, is the probability of foreground. The
    classes divide it in proportion to their maps raised to ``exponent``.

    Args:
        localisation: nHW float32 in [0, 1], one map a tag, each normalised over the image.
        foreground: HW float32 in [0, 1], a foreground map or mask.
        tags: n class ids, sorted and unique.
        threshold: The geometric mean, between 0 and 1, at which background and object are
            equally likely: higher gives more background.
        exponent: Above 0; higher gives more of an object to the strongest class.

    Returns:
        (1+n)HW float32 that sums to 1 over its maps, background first; all background without
        tags, and where no map says anything.

    Raises:
        ValueError: Shapes and tags do not belong together, or the threshold is not between 0 and 1.
    """
    if localisation.shape != (len(tags), *foreground.shape):
        raise ValueError(
            f"Localisation maps of shape {localisation.shape} do not fit {len(tags)} tags and a "
            f"foreground of shape {foreground.shape}."
        )
    if not len(tags):
        return np.ones((1, *foreground.shape), np.float32)
    strongest = localisation.max(axis=0)
    # Relative to the strongest: no power of a small value underflows.
    shares = (localisation / np.maximum(strongest, _TINY)) ** np.float32(exponent)
    shares /= np.maximum(shares.sum(axis=0), _TINY)
    objects = recentre(np.sqrt(strongest * foreground), threshold)
    return np.concatenate([1 - objects[None], objects * shares])


def multi_class_labels(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    tags: Sequence[int],
    crf: CRFSettings,
) -> NDArray[np.uint8]:
    """The multi-class mask: the most probable label after a dense CRF.

    Args:
        image: HWC uint8 RGB.
        probabilities: (1+n)HW float32 in [0, 1], as from :func:`multi_class`.
        tags: n class ids, sorted and unique.
        crf: Kernels and iterations.

    Returns:
        HW uint8: 0 or a tag; all 0 without tags.

    Raises:
        ValueError: Image, probabilities and tags do not fit each other.
    """
    ids = (BACKGROUND, *tags)
    if not len(tags):
        return np.full(image.shape[:2], BACKGROUND, np.uint8)
    return winning_label(dense_crf(image, probabilities, crf), ids)[0]


def recentre(values: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Values in [0, 1] read as probabilities of which ``threshold`` is the even one.

    Their odds are divided by those of the threshold: 0 and 1 stay, ``threshold`` becomes 0.5, and
    the order is kept.

    Args:
        values: Any shape, in [0, 1].
        threshold: Between 0 and 1, both excluded.

    Returns:
        float32 of the same shape in [0, 1].

    Raises:
        ValueError: The threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"The threshold must be between 0 and 1, got {threshold}.")
    high: NDArray[np.float32] = values * np.float32(1 - threshold)
    low: NDArray[np.float32] = (1 - values) * np.float32(threshold)
    high /= high + low
    return high
