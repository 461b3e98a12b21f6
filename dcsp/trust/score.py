"""From signals to a score: the IoU that is to be expected of a label, and why it is low.

A logistic function of a weighted sum, with weights of at least 0: whoever raises a signal never
lowers the score. ``model.json`` holds the weights, and what they were fitted on;
:mod:`dcsp.evaluation.trust_fit` fits them on runs whose images have masks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcsp.trust.signals import SIGNALS, Signals

MODEL_FILE = Path(__file__).with_name("model.json")
NO_PIXELS = "no_pixels"
"""Reason: a tag has no pixel in the label."""
UNTAGGED = "untagged"
"""Reason: the image has tags, and the class is none of them."""
REASONS: Mapping[str, str] = {
    NO_PIXELS: "it is tagged and no pixel is labelled so",
    UNTAGGED: "the image has tags and it is none of them",
    **SIGNALS,
}
"""Reason → what it says of a class."""
_LOW = 0.5
"""A signal that is below this share of its mean is a reason."""


class ClassTrust(NamedTuple):
    """One class of one image.

    Attributes:
        class_id: Its id.
        pixels: Labelled so.
        score: Expected IoU in [0, 1].
        reasons: Names in ``REASONS``, the weightiest first.
    """

    class_id: int
    pixels: int
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class TrustModel:
    """The weights of the signals.

    Attributes:
        weights: Signal → weight, at least 0.
        means: Signal → what stands for one that is not known.
        intercept: Of the sum.
        nothing: Score of an image without tags and without any labelled pixel.
        missed: How large what is tagged and has no pixel is, as a share of what is labelled.
        fitted: On what, and how well; decides nothing.
    """

    weights: Mapping[str, float]
    means: Mapping[str, float]
    intercept: float
    nothing: float
    missed: float
    fitted: Mapping[str, Any]

    @property
    def decides(self) -> dict[str, Any]:
        """What of it decides scores and what they make expect, as JSON values."""
        told = asdict(self)
        return {name: told[name] for name in told if name != "fitted"}

    def parts(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each signal adds to the sum, compared with its mean.

        Args:
            values: (n, signals), as in :class:`Signals`.
        """
        means = np.array([self.means[name] for name in SIGNALS])
        weights = np.array([self.weights[name] for name in SIGNALS])
        parts: NDArray[np.float64] = np.where(np.isnan(values), 0.0, values - means) * weights
        return parts

    def classes(self, signals: Signals, tags: Sequence[int] = ()) -> list[ClassTrust]:
        """The score of each class of an image, and what lowers it.

        Args:
            signals: Of the image.
            tags: Its tags, for the reasons.
        """
        parts = self.parts(signals.values)
        scores = 1 / (1 + np.exp(-(parts.sum(axis=1) + self.intercept)))
        is_low = signals.values < _LOW * np.array([self.means[name] for name in SIGNALS])
        found = []
        for id_, pixels, score, row in zip(
            signals.classes,
            signals.pixels,
            scores.tolist(),
            np.where(is_low, parts, 0),
            strict=True,
        ):
            if pixels == 0:
                found.append(ClassTrust(id_, 0, 0.0, (NO_PIXELS,)))
                continue
            low = sorted(
                (value, name) for name, value in zip(SIGNALS, row, strict=True) if value < 0
            )
            untagged = [UNTAGGED] if tags and id_ not in tags else []
            found.append(ClassTrust(id_, pixels, score, (*untagged, *(name for _, name in low))))
        return found

    def score(self, classes: list[ClassTrust]) -> float:
        """Of a whole image: the mean over its classes, which is that of their IoU."""
        return float(np.mean([c.score for c in classes])) if classes else self.nothing


def told_reasons(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """What lowers trust, a text for each class.

    Args:
        reasons: Name of a class, and one of ``REASONS``.
    """
    by_class: dict[str, list[str]] = {}
    for name, reason in reasons:
        by_class.setdefault(name, []).append(REASONS.get(reason, reason))
    return [f"{name}: {', '.join(told)}" for name, told in by_class.items()]


@cache
def shipped_model() -> TrustModel:
    """The model of this version of dcsp."""
    return TrustModel(**json.loads(MODEL_FILE.read_text()))
