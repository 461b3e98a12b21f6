"""What trust says of a whole run: the mIoU to be expected and, by masks, how well scores tell.

Parts are looked at one by one on any worker, and add up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import mannwhitneyu, spearmanr

from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.labels import BACKGROUND
from dcsp.tables.schemas import OK

BINS = 50
"""Bins of scores that sums are kept in."""
ENOUGH = 50
"""Classes of images with masks from which on scores are calibrated on them."""
LOW_IOU = 0.5
"""An image below is one that a person would correct."""
_QUANTILES = (5, 25, 50, 75, 95)
_PAIRS = ("of_images", "of_classes")
_CENTRES = (np.arange(BINS) + 0.5) / BINS


class Calibration(TypedDict):
    """How well scores tell of true IoU, on images with masks.

    ``spearman`` is the rank correlation, in [-1, 1], and ``auc`` the area under the ROC curve of an
    IoU below a half, in [0, 1]; None where nothing varies.
    """

    images: int
    spearman: float | None
    auc: float | None
    reliability: list[dict[str, float]]
    """Ten groups of images by score: mean ``score``, mean true ``iou``, ``images``."""


class TrustFigures(TypedDict):
    """What trust says of a run; mIoU and IoU in percent, 0-100, shares and scores in [0, 1]."""

    images: int
    expected_miou: float | None
    """None where no label shows a class and no tag names one."""
    per_class: dict[str, dict[str, float | None]]
    """Name → ``expected_iou``, ``images`` that show it, images tagged so ``without_pixels``."""
    tag_consistency: float | None
    """Share of the tagged images each of whose tags has pixels."""
    quantiles: dict[str, float]
    """Percent → score of images that so many are below."""
    reasons: dict[str, int]
    """Reason → classes of images that it lowers the score of, the commonest first."""
    splits: dict[str, float | None]
    """Split → expected mIoU."""
    calibration: Calibration | None
    """None where too few images have masks; else expectations are calibrated on them."""


@dataclass(frozen=True, eq=False)
class TrustSums:
    """Summable counts of scores.

    Attributes:
        images: With a score.
        tagged: Of these, with tags.
        consistent: Of the tagged, those each of whose tags has pixels.
        unlabelled: Pixels that no class is labelled in: background, and 255.
        scores: (BINS,) images by score.
        areas: (C, BINS + 1) pixels of each class by its score in their image; last those that a
            person has corrected, which are right.
        shown: (C,) images that show the class.
        missing: (C,) images that are tagged so and show none of it.
        reasons: Reason → classes of images.
        of_images: (n, 2) score and true IoU, in [0, 1], of each image with a mask.
        of_classes: (m, 2) the same of each class in them that has pixels.
    """

    images: int
    tagged: int
    consistent: int
    unlabelled: int
    scores: NDArray[np.int64]
    areas: NDArray[np.int64]
    shown: NDArray[np.int64]
    missing: NDArray[np.int64]
    reasons: Counter[str]
    of_images: NDArray[np.float64]
    of_classes: NDArray[np.float64]

    def __add__(self, other: TrustSums) -> TrustSums:
        """The counts of both."""
        sums: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            both = getattr(self, name), getattr(other, name)
            sums[name] = np.concatenate(both) if name in _PAIRS else both[0] + both[1]
        return TrustSums(**sums)


class TrustCounter:
    """Counts the scores of some images, and compares them with their masks.

    Args:
        rows: Of a trust table.
        classes: Number of classes C.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], classes: int) -> None:
        self._rows, self._classes = rows, classes
        self._of_images: list[tuple[float, float]] = []
        self._of_classes: list[tuple[float, float]] = []

    def compare(self, row: int, matrix: ConfusionMatrix) -> None:
        """Compare the scores of a row with its mask.

        Args:
            row: Number of the row.
            matrix: Pixel counts of its published label and its mask.
        """
        self._compare(self._rows[row], self._rows[row]["status"], matrix)

    def compare_uncorrected(self, row: int, matrix: ConfusionMatrix) -> None:
        """Compare what a corrected image would have had without its correction, with that.

        Args:
            row: Number of the row.
            matrix: Pixel counts of that label and the correction.
        """
        told = self._rows[row]
        self._compare(told["uncorrected"], told["status"], matrix)

    def _compare(self, told: Mapping[str, Any], status: str, matrix: ConfusionMatrix) -> None:
        if status != OK:
            return
        found = class_iou(matrix)
        self._of_images.append((told["score"], image_iou(found)))
        self._of_classes += [
            (c["score"], found[c["class"]])
            for c in told["classes"]
            if c["pixels"] and c["class"] in found
        ]

    @property
    def sums(self) -> TrustSums:
        """What was counted."""
        rows = [row for row in self._rows if row["status"] == OK]
        found = [(told, bool(row.get("uncorrected"))) for row in rows for told in row["classes"]]
        areas = np.zeros((self._classes, BINS + 1), np.int64)
        shown, missing = np.zeros((2, self._classes), np.int64)
        for told, is_corrected in found:
            column = BINS if is_corrected else _bin(told["score"])
            areas[told["class"] - 1, column] += told["pixels"]
            (shown if told["pixels"] else missing)[told["class"] - 1] += 1
        tags = [{tag for tag in row["tags"] if tag <= self._classes} for row in rows]
        has_all = [
            all(c["pixels"] for c in row["classes"] if c["class"] in own)
            for row, own in zip(rows, tags, strict=True)
            if own  # tags beyond are distractors
        ]
        return TrustSums(
            images=len(rows),
            tagged=len(has_all),
            consistent=sum(has_all),
            unlabelled=sum(row["height"] * row["width"] for row in rows) - int(areas.sum()),
            scores=np.bincount(np.array([_bin(r["score"]) for r in rows], int), minlength=BINS),
            areas=areas,
            shown=shown,
            missing=missing,
            reasons=Counter(reason for told, _ in found for reason in told["reasons"]),
            of_images=np.array(self._of_images, np.float64).reshape(-1, 2),
            of_classes=np.array(self._of_classes, np.float64).reshape(-1, 2),
        )


def class_iou(matrix: ConfusionMatrix) -> dict[int, float]:
    """IoU in [0, 1] of each class that label or mask shows, background left out."""
    found = enumerate((matrix.iou() / 100).tolist())
    return {id_: iou for id_, iou in found if id_ != BACKGROUND and not math.isnan(iou)}


def image_iou(found: Mapping[int, float]) -> float:
    """Of a whole image, in [0, 1]: what its score is to be. 1 where nothing is shown, rightly."""
    return float(np.mean([*found.values()])) if found else 1.0


def _bin(score: float) -> int:
    return min(BINS - 1, int(score * BINS))


def trust_metrics(
    sums: Mapping[str, TrustSums], class_names: Sequence[str], missed: float
) -> TrustFigures | None:
    """``trust`` of ``metrics.json``; None where nothing has a score.

    Args:
        sums: Split → what was counted.
        class_names: The C names in id order.
        missed: Of the :class:`dcsp.trust.score.TrustModel` that the scores are of.
    """
    found = {split: s for split, s in sums.items() if s.images}
    if not found:
        return None
    total = reduce(add, found.values())
    levels = _levels(total)
    expected, per_class = _expected(total, levels, class_names, missed)
    return {
        "images": total.images,
        "expected_miou": expected,
        "per_class": per_class,
        "tag_consistency": total.consistent / total.tagged if total.tagged else None,
        "quantiles": {str(q): _quantile(total.scores, q / 100) for q in _QUANTILES},
        "reasons": dict(total.reasons.most_common()),
        "splits": {s: _expected(f, levels, class_names, missed)[0] for s, f in found.items()},
        "calibration": _calibration(total),
    }


def _expected(
    sums: TrustSums, levels: NDArray[np.float64], class_names: Sequence[str], missed: float
) -> tuple[float | None, dict[str, dict[str, float | None]]]:
    """The mIoU that scores make expect, in percent, and what is told of each class.

    A class of P pixels whose IoU is e shares I of them with the truth; were the truth as large, the
    union U would be 2P − I, so that U = 2P / (1 + e). What is tagged and has no pixels is smaller
    than what is found, by as much as it was where the weights were fitted. Wrong pixels are taken
    from the background, or given to it, in equal parts.
    """
    union = 2 * (sums.areas / (1 + levels)).sum(axis=1)
    shared = 2 * (sums.areas * levels / (1 + levels)).sum(axis=1)
    usual = sums.areas.sum(axis=1) / np.maximum(sums.shown, 1)
    union += sums.missing * usual * missed
    wrong = float((union - shared).sum()) / 2
    ground = max(0.0, sums.unlabelled - wrong) / max(1.0, sums.unlabelled + wrong)
    known = (sums.shown + sums.missing) > 0
    iou = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    per_class: dict[str, dict[str, float | None]] = {
        name: {
            "expected_iou": round(100 * float(iou[i]), 4) if known[i] else None,
            "images": int(sums.shown[i]),
            "without_pixels": int(sums.missing[i]),
        }
        for i, name in enumerate(class_names)
    }
    if not known.any():
        return None, per_class
    return round(100 * float(np.mean([ground, *iou[known]])), 4), per_class


def _levels(sums: TrustSums) -> NDArray[np.float64]:
    """The IoU that each column of areas stands for: by masks, where there are enough.

    Masks that were not drawn at random, such as corrections of what is trusted least, say nothing
    of higher scores: beyond those that were compared a score stands for itself.
    """
    if len(sums.of_classes) < ENOUGH:
        return np.append(_CENTRES, 1.0)
    score, iou = sums.of_classes.T
    bins = np.minimum(BINS - 1, (score * BINS).astype(np.int64))
    weights = np.bincount(bins, minlength=BINS)
    held = np.flatnonzero(weights)
    means = np.bincount(bins, weights=iou, minlength=BINS)[held] / weights[held]
    found = isotonic_regression(means, weights=weights[held]).x
    levels = np.interp(np.arange(BINS), held, found)
    below, above = slice(held[0]), slice(held[-1] + 1, None)
    levels[below] = np.minimum(_CENTRES[below], found[0])
    levels[above] = np.maximum(_CENTRES[above], found[-1])
    return np.append(levels, 1.0)


def _calibration(sums: TrustSums) -> Calibration | None:
    """How well scores tell of true IoU; None with too few masks."""
    if len(sums.of_classes) < ENOUGH:
        return None
    images = sums.of_images
    return {
        "images": len(images),
        "spearman": spearman(*images.T),
        "auc": auc(-images[:, 0], images[:, 1] < LOW_IOU),
        "reliability": _reliability(images),
    }


def _reliability(images: NDArray[np.float64]) -> list[dict[str, float]]:
    """Ten groups of images of equal size, by score: mean score and mean true IoU of each."""
    ordered = images[np.argsort(images[:, 0], kind="stable")]
    groups = [g for g in np.array_split(ordered, 10) if len(g)]
    return [
        {"score": float(g[:, 0].mean()), "iou": float(g[:, 1].mean()), "images": len(g)}
        for g in groups
    ]


def spearman(score: NDArray[np.float64], iou: NDArray[np.float64]) -> float | None:
    """Rank correlation, in [-1, 1]; None where one of both does not vary."""
    if np.ptp(score) == 0 or np.ptp(iou) == 0:
        return None
    return float(spearmanr(score, iou).statistic)


def auc(score: NDArray[np.float64], found: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, in [0, 1]; None where all, or none, are to be found."""
    if found.all() or not found.any():
        return None
    wins = mannwhitneyu(score[found], score[~found], method="asymptotic").statistic
    return float(wins / (found.sum() * (~found).sum()))


def _quantile(scores: NDArray[np.int64], share: float) -> float:
    """Of binned scores: the upper end of the bin that holds it."""
    below = np.cumsum(scores) / scores.sum()
    return (int(np.searchsorted(below, share)) + 1) / BINS
