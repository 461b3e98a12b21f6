"""Saliency refined by the colours of a mined object (Wang et al. 2018; method 3, the first rounds).

Saliency is the prior of a pixel being the object, and the colours of the mined object and of the
mined background say how likely its colour v is in each:
p(obj|v) = p(obj) p(v|obj) / (p(obj) p(v|obj) + p(bg) p(v|bg)). Only for images of one class: the
histograms know one object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POOLED = 0.1
"""Share of the whole image's histogram in both likelihoods: no colour of the image is impossible in
the object or in the background, however few pixels were mined."""


def refine_saliency(
    image: NDArray[np.uint8],
    saliency: NDArray[np.float32],
    mined: NDArray[np.uint8],
    *,
    bins: int = 16,
) -> NDArray[np.float32]:
    """The probability that a pixel is the object, from its saliency and its colour.

    Args:
        image: HWC uint8 RGB.
        saliency: HW float32 in [0, 1], the prior p(obj).
        mined: HW uint8: 1 where the object was mined, 0 background; all else is in neither.
        bins: Bins of each of the three colours' axes, 1–256.

    Returns:
        HW float32 in [0, 1]: 0 where the prior is 0, 1 where it is 1, and the prior itself where
        both likelihoods are equal; the prior everywhere when no object or no background is mined.

    Raises:
        ValueError: Shapes or dtypes do not fit, the saliency leaves [0, 1], or ``bins`` is out of
            its range.
    """
    _require_fit(image, saliency, mined, bins)
    colours = _colour_bins(image, bins)
    if not (mined == 1).any() or not (mined == 0).any():
        return saliency.copy()
    pooled = _histogram(colours, bins)
    object_ = _likelihood(colours[mined == 1], pooled, bins)
    background = _likelihood(colours[mined == 0], pooled, bins)
    # Colours that the image lacks have neither likelihood; no pixel asks for their ratio.
    ratio = np.divide(object_, background, out=np.ones_like(pooled), where=background > 0)
    weighted = saliency * ratio.astype(np.float32)[colours]
    refined: NDArray[np.float32] = weighted / (weighted + (1 - saliency))
    return refined


def _colour_bins(image: NDArray[np.uint8], bins: int) -> NDArray[np.int32]:
    """HW int32: the bin of the joint histogram, 0..bins³−1, that each pixel's colour falls into."""
    red, green, blue = np.moveaxis(image.astype(np.int32) * bins >> 8, 2, 0)
    return np.asarray((red * bins + green) * bins + blue)


def _histogram(colours: NDArray[np.int32], bins: int) -> NDArray[np.float64]:
    """(bins³,) shares of the pixels, smoothed along each axis with (1, 2, 1) / 4; sums to 1.

    What the smoothing would push over the rim stays in the outermost bin.
    """
    counts = np.bincount(colours.ravel(), minlength=bins**3).astype(np.float64)
    cube = counts.reshape(bins, bins, bins)
    for axis in range(3):
        width = [(int(other == axis),) * 2 for other in range(3)]
        wide = np.moveaxis(np.pad(cube, width, mode="edge"), axis, 0)
        cube = np.moveaxis((wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4, 0, axis)
    return cube.ravel() / colours.size


def _likelihood(
    colours: NDArray[np.int32], pooled: NDArray[np.float64], bins: int
) -> NDArray[np.float64]:
    """p(v|region), (bins³,): positive for every colour of the image."""
    return (1 - _POOLED) * _histogram(colours, bins) + _POOLED * pooled


def _require_fit(
    image: NDArray[np.uint8], saliency: NDArray[np.float32], mined: NDArray[np.uint8], bins: int
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"Expected HWC uint8, got {image.dtype} of shape {image.shape}.")
    if saliency.shape != image.shape[:2] or mined.shape != image.shape[:2]:
        raise ValueError(
            f"Saliency {saliency.shape} and mined regions {mined.shape} do not fit an image of "
            f"shape {image.shape}."
        )
    if saliency.dtype != np.float32 or not ((saliency >= 0) & (saliency <= 1)).all():
        raise ValueError(f"Saliency must be float32 in [0, 1], this one is {saliency.dtype}.")
    if not 1 <= bins <= 256:
        raise ValueError(f"The bins of a colour must be 1–256, got {bins}.")
