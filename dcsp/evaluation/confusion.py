"""Confusion matrices of label maps and the figures drawn from them (paper 5.2; method 1.8).

One matrix is summed over a whole set and read once at the end; figures of single images are never
averaged. Pixels whose ground truth is 255 are left out.

A label map under test may hold 255 too (a cue's ignored band, an image that failed). Such pixels
have a column of their own, so that figures come both ways: ``"miss"`` counts an ignored pixel as
nothing found (it lowers recall and IoU of its true class and raises no other class's union),
``"skip"`` leaves it out. ``"miss"`` is the default: leaving pixels out must not look like quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dcsp.labels import IGNORE, count_pairs

Ignored = Literal["miss", "skip"]


def confusion(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: HW uint8, 0 background, 1..classes, 255 left out.
        prediction: HW uint8 of the same shape, 255 where nothing is predicted.
        classes: Number of classes C, background not counted.

    Returns:
        (C+1, C+2) int64: row the true class, column the predicted one, last column 255.

    Raises:
        ValueError: Shapes differ, a dtype is not uint8, or an id is neither in 0..C nor 255.
    """
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(f"label maps must be uint8, got {truth.dtype} and {prediction.dtype}")
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape} but the prediction is {prediction.shape}")
    if not 1 <= classes < IGNORE:
        raise ValueError(f"classes must be within 1..254, got {classes}")
    columns = classes + 2
    table = count_pairs(truth, prediction)
    _check_ids(table.sum(axis=1), classes, "truth")
    _check_ids(table.sum(axis=0), classes, "prediction")
    counts = np.empty((classes + 1, columns), dtype=np.int64)
    counts[:, : classes + 1] = table[: classes + 1, : classes + 1]
    counts[:, classes + 1] = table[: classes + 1, IGNORE]
    return counts


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Summable pixel counts; every figure is in percent, 0-100.

    Attributes:
        counts: (C+1, C+2) int64, as :func:`confusion` returns it.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> ConfusionMatrix:
        """A matrix of no pixels, for C = ``classes`` classes beside background."""
        return cls(np.zeros((classes + 1, classes + 2), dtype=np.int64))

    @classmethod
    def of(
        cls, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
    ) -> ConfusionMatrix:
        """The matrix of one image; arguments and errors as for :func:`confusion`."""
        return cls(confusion(truth, prediction, classes))

    @property
    def classes(self) -> int:
        """Number of classes, background not counted."""
        return int(self.counts.shape[0]) - 1

    @property
    def pixels(self) -> int:
        """Pixels with a ground truth."""
        return int(self.counts.sum())

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Pixel counts of both.

        Raises:
            ValueError: The numbers of classes differ.
        """
        if self.counts.shape != other.counts.shape:
            raise ValueError(f"cannot add matrices of {self.classes} and {other.classes} classes")
        return ConfusionMatrix(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        """Whether shapes and all counts are equal."""
        return isinstance(other, ConfusionMatrix) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    def iou(self, ignored: Ignored = "miss") -> NDArray[np.float64]:
        """Intersection over union, (C+1,) percent; nan for a class that neither map holds."""
        union = self._true(ignored) + self._predicted() - self._hits()
        return _percent(self._hits(), union)

    def mean_iou(self, ignored: Ignored = "miss") -> float:
        """Mean over the classes, background included, that are in truth or prediction; else nan."""
        return _mean(self.iou(ignored))

    def precision(self) -> NDArray[np.float64]:
        """Share of the pixels given a class that are of it, (C+1,) percent; nan without any."""
        return _percent(self._hits(), self._predicted())

    def recall(self) -> NDArray[np.float64]:
        """Share of a class's pixels that are found, (C+1,) percent; nan if truth has none."""
        return _percent(self._hits(), self._true("miss"))

    def accuracy(self) -> float:
        """Share of all pixels that are right, percent; nan without pixels."""
        total = self._true("miss").sum(keepdims=True)
        return float(_percent(self._hits().sum(keepdims=True), total)[0])

    def coverage(self) -> float:
        """Share of the pixels with a ground truth that are labelled at all, percent."""
        total = self.counts.sum(keepdims=True).ravel()
        return float(_percent(total - self.counts[:, -1].sum(), total)[0])

    def shares(self) -> NDArray[np.float64]:
        """Share of each class in the ground truth, (C+1,) percent; nan without pixels."""
        true = self._true("miss")
        return _percent(true, np.full_like(true, self.pixels))

    def _hits(self) -> NDArray[np.int64]:
        return np.diagonal(self.counts).astype(np.int64)

    def _predicted(self) -> NDArray[np.int64]:
        predicted: NDArray[np.int64] = self.counts[:, :-1].sum(axis=0)
        return predicted

    def _true(self, ignored: Ignored) -> NDArray[np.int64]:
        counted = self.counts if ignored == "miss" else self.counts[:, :-1]
        true: NDArray[np.int64] = counted.sum(axis=1)
        return true


def _check_ids(pixels: NDArray[np.int64], classes: int, name: str) -> None:
    strange = np.flatnonzero(pixels[classes + 1 : IGNORE])
    if len(strange):
        found = int(strange[0]) + classes + 1
        raise ValueError(f"the {name} holds class id {found}: ids are 0..{classes} or 255")


def _percent(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    share = np.full(part.shape, np.nan)
    np.divide(100.0 * part, whole, out=share, where=whole > 0)
    return share


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
