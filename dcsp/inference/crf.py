"""Dense CRF (Krähenbühl and Koltun 2011): labels snap to the edges of the image (method 1.8).

pydensecrf holds the GIL while it works: run several images in processes, never in threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydensecrf.densecrf as pydensecrf
from numpy.typing import NDArray

from dcsp.config import CRFSettings
from dcsp.inference.scores import winning_label

_SMALLEST = 1e-8  # probabilities are clipped here, so that the unary −log p stays finite
_FEW = 1 / 5000  # of the pixels: a label that wins fewer does not outlive the CRF's smoothing


class DenseCRF:
    """The CRF of one image; its filters are built once and serve any number of unaries."""

    def __init__(self, image: NDArray[np.uint8], labels: int, settings: CRFSettings) -> None:
        """Build the filters.

        Args:
            image: HWC uint8 RGB.
            labels: Number of labels, at least 1.
            settings: Kernels and iterations.

        Raises:
            ValueError: The image is not HWC uint8.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"Expected HWC uint8, got {image.dtype} of shape {image.shape}.")
        height, width = image.shape[:2]
        self._shape = (labels, height, width)
        self._iterations = settings.iterations
        self._field = pydensecrf.DenseCRF2D(width, height, labels)
        kernel = {
            "kernel": pydensecrf.DIAG_KERNEL,
            "normalization": pydensecrf.NORMALIZE_SYMMETRIC,
        }
        self._field.addPairwiseGaussian(
            sxy=settings.gaussian_sxy, compat=settings.gaussian_compat, **kernel
        )
        self._field.addPairwiseBilateral(
            sxy=settings.bilateral_sxy,
            srgb=settings.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # a copy: read-only arrays are refused
            compat=settings.bilateral_compat,
            **kernel,
        )

    def __call__(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """Refine probabilities.

        Args:
            probabilities: LHW, at most 1; need not sum to 1 over L.

        Returns:
            LHW float32 that sums to 1 over L.

        Raises:
            ValueError: Not of this CRF's L, H and W.
        """
        if probabilities.shape != self._shape:
            raise ValueError(f"Expected {self._shape}, got {probabilities.shape}.")
        unary = np.clip(probabilities, _SMALLEST, None).astype(np.float32, order="C", copy=False)
        np.log(unary, out=unary)
        np.negative(unary, out=unary)
        self._field.setUnaryEnergy(unary.reshape(self._shape[0], -1))
        refined = np.array(self._field.inference(self._iterations), np.float32)
        return refined.reshape(self._shape)


def dense_crf(
    image: NDArray[np.uint8], probabilities: NDArray[np.floating], settings: CRFSettings
) -> NDArray[np.float32]:
    """Refine the probabilities (LHW) of one image (HWC uint8 RGB): LHW float32.

    Raises:
        ValueError: Image and probabilities do not fit each other.
    """
    return DenseCRF(image, len(probabilities), settings)(probabilities)


def crf_labels(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    label_ids: Sequence[int],
    settings: CRFSettings,
) -> NDArray[np.uint8]:
    """The most probable label of every pixel after the CRF, which sees only labels that matter.

    The cost grows with the number of labels, and most classes of a softmax over all of them win
    nothing: labels that win less than one pixel in 5,000 without the CRF are left out.

    Args:
        image: HWC uint8 RGB.
        probabilities: LHW float32 in [0, 1].
        label_ids: The id of each of the L maps.
        settings: Kernels and iterations.

    Returns:
        HW uint8 of ids in ``label_ids``.

    Raises:
        ValueError: Image, probabilities and ids do not fit each other.
    """
    if image.shape[:2] != probabilities.shape[1:] or len(label_ids) != len(probabilities):
        raise ValueError(
            f"An image of {image.shape}, maps of {probabilities.shape} and {len(label_ids)} ids do "
            "not belong together."
        )
    won = np.bincount(winning_label(probabilities, range(len(label_ids)))[0].ravel())
    kept = np.flatnonzero(won >= max(1.0, _FEW * won.sum())).tolist()
    ids = [label_ids[i] for i in kept]
    if len(ids) == 1:
        return np.full(image.shape[:2], ids[0], np.uint8)
    return winning_label(dense_crf(image, probabilities[kept], settings), ids)[0]
