"""What became of untagged images: figures of self-tags for ``metrics.json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict, cast

import numpy as np
import pyarrow.compute as pc

from dcsp.run.plan import Plan
from dcsp.selftags.calibration import Thresholds
from dcsp.selftags.table import read_thresholds
from dcsp.stages.columns import read_columns
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.schemas import OK


class ClassSelfTags(TypedDict):
    """Self-tags of one class; see :class:`dcsp.selftags.calibration.ClassThreshold`."""

    threshold: float | None
    precision: float | None
    lower: float | None
    recall: float | None
    reached: int
    tagged: int
    images: int
    """Untagged images that got the self-tag."""


class SelfTagFigures(TypedDict):
    """Self-tags of a run; see :class:`dcsp.selftags.calibration.Thresholds`."""

    use: str
    untagged: int
    """Untagged training images that could be looked at."""
    self_tagged: int
    """Of those, images with a self-tag."""
    split: str
    held_out: bool
    calibrated_on: int
    """Tagged images."""
    precision: float
    min_support: int
    per_class: dict[str, ClassSelfTags]
    """Name → figures, in id order."""


def selftag_metrics(store: Store, plan: Plan) -> dict[str, SelfTagFigures]:
    """``selftags``: thresholds with their precision, and how many images got which self-tags.

    Empty for a run without self-tags. A few parts of the table are held at once.

    Raises:
        StoreError: The table is not there.
    """
    found = plan.of(Role.SELFTAGS)
    if not found:
        return {}
    (step,) = found
    key, parts = step.stage.key, plan.parts(step)
    untagged = self_tagged = 0
    images = np.zeros(len(plan.snapshot.classes) + 1, np.int64)
    for rows in read_columns(store, key.directory, parts, ("selftags", "status")):
        untagged += rows["status"].to_pylist().count(OK)
        selftags = rows["selftags"].combine_chunks()
        images += np.bincount(pc.list_flatten(selftags).to_numpy(), minlength=len(images))
        self_tagged += len(pc.unique(pc.list_parent_indices(selftags)))
    thresholds = read_thresholds(store, key)
    return {
        "selftags": {
            "use": plan.config.selftags.use,
            "untagged": untagged,
            "self_tagged": self_tagged,
            "split": thresholds.split,
            "held_out": thresholds.held_out,
            "calibrated_on": thresholds.images,
            "precision": thresholds.precision,
            "min_support": thresholds.min_support,
            "per_class": _per_class(thresholds, images[1:].tolist()),
        }
    }


def _per_class(found: Thresholds, images: list[int]) -> dict[str, ClassSelfTags]:
    return {
        name: cast(ClassSelfTags, {**asdict(known), "images": number})
        for (name, known), number in zip(found.classes.items(), images, strict=True)
    }
