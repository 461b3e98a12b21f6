"""Thresholds on image scores, one a class, at a stated precision on tagged images.

Scores are counted in bins, so that memory does not grow with the number of images. Bins are cut at
multiples of 1/4096, which float32 holds exactly: counts at or above a bin's lower edge are those of
the scores themselves, and the precision that is found for a threshold is exact.

Dimensions: N images, C classes, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.tables.snapshot import TRAIN

BINS = 4096
"""Bins of [0, 1]."""
Z95 = 1.96
"""Standard deviations of the normal distribution that 95 % lie within."""


@dataclass(frozen=True)
class ScoreCounts:
    """How many images have each score, apart for images with and without the class's tag.

    Attributes:
        present: C×K int64, images with the tag.
        absent: C×K int64, images without it.
        images: Images counted.
    """

    present: NDArray[np.int64]
    absent: NDArray[np.int64]
    images: int = 0

    @classmethod
    def empty(cls, classes: int) -> ScoreCounts:
        """No images yet."""
        return cls(np.zeros((classes, BINS), np.int64), np.zeros((classes, BINS), np.int64))

    @classmethod
    def of(cls, scores: NDArray[np.float32], tagged: NDArray[np.bool_]) -> ScoreCounts:
        """Of some images.

        Args:
            scores: N×C in [0, 1].
            tagged: N×C, whether an image has the class's tag.

        Raises:
            ValueError: A score is not within [0, 1].
        """
        number, classes = scores.shape
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("Scores must be within 0 and 1.")
        cells = np.arange(classes) * BINS + bins_of(scores)
        present, absent = (
            np.bincount(cells[chosen], minlength=classes * BINS).reshape(classes, BINS)
            for chosen in (tagged, ~tagged)
        )
        return cls(present, absent, number)

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        """Both together."""
        return ScoreCounts(
            self.present + other.present, self.absent + other.absent, self.images + other.images
        )


def bins_of(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each score, 0 … K − 1; 1 falls into the last one."""
    bins: NDArray[np.int64] = np.minimum((scores * np.float32(BINS)).astype(np.int64), BINS - 1)
    return bins


@dataclass(frozen=True)
class ClassThreshold:
    """What calibration found for one class.

    Attributes:
        threshold: Lowest score of a self-tag; None: the class is never one.
        precision: Share of the calibration images that reach it and have the tag.
        lower: Lower bound of its 95 % confidence interval (Wilson).
        recall: Share of the images with the tag that reach it.
        reached: Calibration images that reach it.
        tagged: Calibration images with the tag.
    """

    threshold: float | None
    precision: float | None
    lower: float | None
    recall: float | None
    reached: int
    tagged: int


def find_threshold(
    present: NDArray[np.int64], absent: NDArray[np.int64], precision: float, min_support: int
) -> ClassThreshold:
    """The lowest threshold at which a class has the stated precision.

    Thresholds are lower edges of bins that hold a calibration image: below the lowest of those that
    suffice nothing is known to be right.

    Args:
        present: (K,) images with the tag, by bin.
        absent: (K,) images without it.
        precision: Stated, in (0, 1].
        min_support: Images that must reach the threshold.
    """
    right = np.cumsum(present[::-1])[::-1]
    reached = right + np.cumsum(absent[::-1])[::-1]
    # Divided and not multiplied: 9 of 10 are exactly what a user writes as 0.9.
    exact = right / np.maximum(reached, 1)
    enough = (exact >= precision) & (reached >= min_support) & (present + absent > 0)
    tagged = int(right[0])
    if not enough.any():
        return ClassThreshold(None, None, None, None, 0, tagged)
    edge = int(np.flatnonzero(enough)[0])
    passed, hits = int(reached[edge]), int(right[edge])
    return ClassThreshold(
        threshold=edge / BINS,
        precision=hits / passed,
        lower=wilson_lower(hits, passed),
        recall=hits / tagged,
        reached=passed,
        tagged=tagged,
    )


def wilson_lower(hits: int, trials: int) -> float:
    """Lower bound of the 95 % confidence interval of a share (Wilson 1927)."""
    share, weight = hits / trials, Z95**2 / trials
    spread = Z95 * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, (share + weight / 2 - spread) / (1 + weight))


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of all classes and what they rest on.

    Attributes:
        split: Split of the calibration images.
        images: Tagged images that were calibrated on.
        precision: Stated precision.
        min_support: Images that had to reach a threshold.
        classes: Name → what was found, in id order.
    """

    split: str
    images: int
    precision: float
    min_support: int
    classes: Mapping[str, ClassThreshold]

    @classmethod
    def find(
        cls,
        counts: ScoreCounts,
        classes: Sequence[str],
        split: str,
        precision: float,
        min_support: int,
    ) -> Thresholds:
        """From the counted scores of calibration images."""
        found = {
            name: find_threshold(counts.present[i], counts.absent[i], precision, min_support)
            for i, name in enumerate(classes)
        }
        return cls(split, counts.images, precision, min_support, found)

    @property
    def levels(self) -> NDArray[np.float32]:
        """(C,) lowest score of a self-tag of each class; infinite where there is none."""
        levels = [t.threshold for t in self.classes.values()]
        return np.array([math.inf if level is None else level for level in levels], np.float32)

    @property
    def held_out(self) -> bool:
        """Whether the network had not learned from the calibration images."""
        return self.split != TRAIN

    def self_tags(self, scores: NDArray[np.float32]) -> list[int]:
        """Class ids, ascending, whose score (C,) reaches their threshold."""
        return [int(i) + 1 for i in np.flatnonzero(scores >= self.levels)]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "held_out": self.held_out}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Thresholds:
        """From what :meth:`as_dict` gave."""
        classes = {name: ClassThreshold(**found) for name, found in told["classes"].items()}
        known = {name: told[name] for name in ("split", "images", "precision", "min_support")}
        return cls(classes=classes, **known)

    @property
    def told(self) -> str:
        """One line for whoever watches the job."""
        if not self.images:
            return (
                f"no tagged image of the split {self.split!r} to calibrate on, so that nothing "
                "gets a self-tag: set selftags.calibrate to a split with tags"
            )
        lacking = [name for name, found in self.classes.items() if found.threshold is None]
        seen = "held-out images" if self.held_out else "images that the network learned from"
        number = len(self.classes) - len(lacking)
        line = (
            f"thresholds for {number} of {len(self.classes)} classes at a precision of "
            f"{self.precision:g}, calibrated on {self.images} tagged {seen} (split {self.split})"
        )
        return f"{line}; none for {', '.join(lacking)}" if lacking else line
