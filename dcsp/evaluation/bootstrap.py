"""How far figures of a sample of images can be off: the bootstrap, image by image.

Other samples as large are imagined: each draws every image a number of times. By drawing from a
Poisson distribution of mean 1, seeded by the image's id, images need not be known together, so that
the samples of parts add up, whichever worker looked at them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.evaluation.confusion import ConfusionMatrix

SAMPLES = 200
COVERS = 0.9
"""Share of the samples whose figure the interval holds."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Summable pixel counts of imagined samples.

    Attributes:
        counts: (SAMPLES, 3, C+1) int64: of each class pixels that are right, labelled so, true.
        shown: (C+1,) int64: images whose ground truth shows the class.
    """

    counts: NDArray[np.int64]
    shown: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Samples:
        """Of no images, for C = ``classes`` classes beside background."""
        return cls(np.zeros((SAMPLES, 3, classes + 1), np.int64), np.zeros(classes + 1, np.int64))

    @classmethod
    def of(cls, images: Mapping[str, ConfusionMatrix]) -> Samples:
        """Of some images.

        Args:
            images: Id, which decides how often each sample draws the image → its pixel counts.
        """
        found = np.stack([matrix.counts for matrix in images.values()])
        right = np.diagonal(found, axis1=1, axis2=2)
        true = found.sum(axis=2)
        counts = np.stack([right, found[:, :, :-1].sum(axis=1), true], axis=1)
        times = np.stack([_times(image_id) for image_id in images])
        # In float64, where it is one matrix product; exact, since no count reaches 2**53.
        drawn = times.T.astype(np.float64) @ counts.reshape(len(images), -1).astype(np.float64)
        return cls(
            drawn.astype(np.int64).reshape(SAMPLES, *counts.shape[1:]), (true > 0).sum(axis=0)
        )

    def __add__(self, other: Samples) -> Samples:
        """The samples of both."""
        return Samples(self.counts + other.counts, self.shown + other.shown)

    def __eq__(self, other: object) -> bool:
        """Whether all counts are equal."""
        return (
            isinstance(other, Samples)
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.shown, other.shown)
        )

    __hash__ = None  # type: ignore[assignment]

    def interval(self) -> tuple[float, float] | None:
        """Where the mIoU of most samples lies, in percent; None where nothing was measured."""
        right, labelled, true = np.moveaxis(self.counts, 1, 0)
        union = labelled + true - right
        iou = np.full(union.shape, np.nan)
        np.divide(100.0 * right, union, out=iou, where=union > 0)
        drawn = iou[~np.isnan(iou).all(axis=1)]
        if not len(drawn):
            return None
        low, high = np.quantile(np.nanmean(drawn, axis=1), [(1 - COVERS) / 2, (1 + COVERS) / 2])
        return float(low), float(high)


def _times(image_id: str) -> NDArray[np.int64]:
    """How often each sample draws an image: (SAMPLES,)."""
    seed = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8])
    times: NDArray[np.int64] = np.random.default_rng(seed).poisson(1.0, SAMPLES)
    return times
