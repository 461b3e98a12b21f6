"""What trust says of a whole run: the mIoU to be expected and, by masks, how well scores tell.

Parts are looked at one by one on any worker, and add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from dcsp.evaluation.truth import read_truth
from dcsp.labels import BACKGROUND, IGNORE, hide_labels
from dcsp.run.plan import Plan
from dcsp.stages.parts import live_rows
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import CorpusPart
from dcsp.trust.score import shipped_model
from dcsp.trust.signals import overlaps

BINS = 50
"""Bins of scores that sums are kept in."""
ENOUGH = 50
"""Classes of images with masks from which on scores are calibrated on them."""
MOST_PAIRS = 20_000
"""Pairs of a score and a true IoU that are kept of a run."""
LOW_IOU = 0.5
"""An image below is one that a person would correct."""
_QUANTILES = (5, 25, 50, 75, 95)
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


@dataclass
class TrustSums:
    """Summable counts of scores.

    Attributes:
        classes: Number of classes C.
        images: With a score.
        tagged: Of these, with tags.
        consistent: Of the tagged, those each of whose tags has pixels.
        unlabelled: Pixels that no class is labelled in: background, and 255.
        scores: (BINS,) images by score.
        areas: (C, BINS) pixels of each class by its score in their image.
        shown: (C,) images that show the class.
        missing: (C,) images that are tagged so and show none of it.
        reasons: Reason → classes of images.
        of_images: Score and true IoU of images with a mask, in [0, 1].
        of_classes: The same of the classes in them that have pixels.
    """

    classes: int
    images: int = 0
    tagged: int = 0
    consistent: int = 0
    unlabelled: int = 0
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    areas: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    shown: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    missing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    reasons: Counter[str] = field(default_factory=Counter)
    of_images: list[tuple[float, float]] = field(default_factory=list)
    of_classes: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.areas.size:
            self.areas = np.zeros((self.classes, BINS), np.int64)
            self.shown = np.zeros(self.classes, np.int64)
            self.missing = np.zeros(self.classes, np.int64)

    def __add__(self, other: TrustSums) -> TrustSums:
        names = [f.name for f in fields(self) if f.name != "classes"]
        total = {name: getattr(self, name) + getattr(other, name) for name in names}
        for name in ("of_images", "of_classes"):
            total[name] = _some(total[name])
        return TrustSums(self.classes, **total)


def _some(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every so many of them where they are more than are kept: of all splits alike."""
    return pairs[:: -(-len(pairs) // MOST_PAIRS)] if pairs else pairs


@dataclass(frozen=True)
class TrustCounter:
    """Counts the scores of one part, and compares them with its masks; picklable."""

    store: Store
    plan: Plan

    def __call__(self, part: CorpusPart) -> TrustSums:
        """The sums of a part."""
        total = TrustSums(len(self.plan.config.corpus.classes))
        rows = self._table(Role.TRUST, part).to_pylist()
        for row in rows:
            if row["status"] == OK:
                _count(total, row)
        truth = read_truth(self.store, part, self.plan.snapshot.masks)
        if truth is not None:
            masks = live_rows(truth, part.dead)["label"].to_pylist()
            labels = self._table(Role.PREDICTIONS, part)["label"]
            for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
                if row["status"] == OK and mask is not None:
                    _compare(total, row, decode_labels(labels[number].as_py()), mask)
        return total

    def _table(self, role: Role, part: CorpusPart) -> pa.Table:
        directory = self.plan.of(role)[0].stage.key.directory
        return live_rows(self.store.read_table(part_file(directory, part.name)), part.dead)


def true_iou(label: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[int, float]:
    """IoU in [0, 1] of each class, background left out, that either of two label maps shows.

    Args:
        label: HW uint8; where it is 255, it is wrong.
        truth: HW uint8; where it is 255, nothing counts.
    """
    shown = np.union1d(label[truth != IGNORE], truth)
    ids = [int(id_) for id_ in shown if id_ not in (BACKGROUND, IGNORE)]
    said = np.where(label == IGNORE, BACKGROUND, label).astype(np.uint8)
    return dict(zip(ids, overlaps(said, truth, ids).tolist(), strict=True))


def mean_true_iou(found: Mapping[int, float]) -> float:
    """Of a whole image, in [0, 1]: what its score is to be. 1 where nothing is shown, rightly."""
    return float(np.mean([*found.values()])) if found else 1.0


def _count(total: TrustSums, row: Mapping[str, Any]) -> None:
    """Add the scores of one image."""
    total.images += 1
    total.scores[_bin(row["score"])] += 1
    classes, size = row["classes"], row["height"] * row["width"]
    total.unlabelled += size - sum(c["pixels"] for c in classes)
    if tags := {tag for tag in row["tags"] if tag <= total.classes}:  # beyond are distractors
        total.tagged += 1
        total.consistent += all(c["pixels"] for c in classes if c["class"] in tags)
    for found in classes:
        total.areas[found["class"] - 1, _bin(found["score"])] += found["pixels"]
        kind = total.shown if found["pixels"] else total.missing
        kind[found["class"] - 1] += 1
        total.reasons.update(found["reasons"])


def _compare(
    total: TrustSums, row: Mapping[str, Any], label: NDArray[np.uint8], mask: bytes
) -> None:
    """Add the true IoU of one image and its classes."""
    truth = hide_labels(decode_labels(mask), total.classes, BACKGROUND)
    if truth.shape != label.shape:
        return
    found = true_iou(label, truth)
    total.of_images.append((row["score"], mean_true_iou(found)))
    total.of_classes += [
        (c["score"], found[c["class"]])
        for c in row["classes"]
        if c["pixels"] and c["class"] in found
    ]


def _bin(score: float) -> int:
    return min(BINS - 1, int(score * BINS))


def trust_metrics(sums: Mapping[str, TrustSums], class_names: Sequence[str]) -> TrustFigures | None:
    """``trust`` of ``metrics.json``; None where nothing has a score.

    Args:
        sums: Split → what was counted.
        class_names: The C names in id order.
    """
    found = {split: s for split, s in sums.items() if s.images}
    if not found:
        return None
    total = sum(found.values(), TrustSums(len(class_names)))
    calibration, levels = _calibration(total), _levels(total)
    expected, per_class = _expected(total, levels, class_names)
    return {
        "images": total.images,
        "expected_miou": expected,
        "per_class": per_class,
        "tag_consistency": total.consistent / total.tagged if total.tagged else None,
        "quantiles": {str(q): _quantile(total.scores, q / 100) for q in _QUANTILES},
        "reasons": dict(total.reasons.most_common()),
        "splits": {s: _expected(f, levels, class_names)[0] for s, f in found.items()},
        "calibration": calibration,
    }


def _expected(
    sums: TrustSums, levels: NDArray[np.float64], class_names: Sequence[str]
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
    union += sums.missing * usual * shipped_model().missed
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
    """The IoU that a score of each bin stands for: by masks, where there are enough."""
    if len(sums.of_classes) < ENOUGH:
        return _CENTRES
    score, iou = np.array(sums.of_classes).T
    bins = np.minimum(BINS - 1, (score * BINS).astype(np.int64))
    weights = np.bincount(bins, minlength=BINS)
    held = np.flatnonzero(weights)
    means = np.bincount(bins, weights=iou, minlength=BINS)[held] / weights[held]
    found = isotonic_regression(means, weights=weights[held]).x
    levels: NDArray[np.float64] = np.interp(np.arange(BINS), held, found)
    return levels


def _calibration(sums: TrustSums) -> Calibration | None:
    """How well scores tell of true IoU; None with too few masks."""
    if len(sums.of_classes) < ENOUGH:
        return None
    images = np.array(sums.of_images)
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
    one, other = rankdata(score), rankdata(iou)
    if one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def auc(score: NDArray[np.float64], found: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve, in [0, 1]; None where all, or none, are to be found."""
    positive = int(found.sum())
    negative = len(found) - positive
    if not positive or not negative:
        return None
    ranks = float(rankdata(score)[found].sum()) - positive * (positive + 1) / 2
    return ranks / (positive * negative)


def _quantile(scores: NDArray[np.int64], share: float) -> float:
    """Of binned scores: the upper end of the bin that holds it."""
    below = np.cumsum(scores) / scores.sum()
    return (int(np.searchsorted(below, share)) + 1) / BINS
