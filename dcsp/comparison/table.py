"""The arithmetic of a comparison: from metrics and manifests to a row for each combination.

Nothing here reads a store.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from dcsp.evaluation.quality import Figures
from dcsp.tables.snapshot import TRAIN, VAL

Measures = Mapping[str, float | None]
"""Name of a :data:`FIGURES` entry → its value in one run; None where it was not measured."""


@dataclass(frozen=True)
class Figure:
    """One column of the table.

    Attributes:
        name: Its name in the CSV and JSON files.
        title: Its heading.
        unit: Unit of its values.
        best: Which value is marked as the best; None: neither end is better in itself.
        digits: Decimals shown.
    """

    name: str
    title: str
    unit: str
    best: Literal["highest", "lowest"] | None
    digits: int = 1


def _cue_figures(prefix: str, title: str) -> tuple[Figure, ...]:
    return (
        Figure(f"{prefix}_precision", f"{title} precision", "%", "highest"),
        Figure(f"{prefix}_recall", f"{title} recall", "%", "highest"),
        Figure(f"{prefix}_miou", f"{title} mIoU", "%", "highest"),
        Figure(f"{prefix}_coverage", f"{title} coverage", "%", None),
    )


_SHARES = (
    ("published_to_full", "published_miou", "Published, of full"),
    ("weak_to_full", "val_miou", "Val, of full"),
    ("weak_to_full_crf", "val_miou_crf", "Val with CRF, of full"),
)
"""Share of a figure in that of the run on true masks: its name, the figure, its title."""

FIGURES = (
    Figure("start_cue_miou", "Start cue mIoU", "%", "highest"),
    *_cue_figures("cue", "Cue"),
    *_cue_figures("adapt_cue", "Adapt cue"),
    Figure("published_miou", "Published mIoU", "%", "highest"),
    Figure("val_miou", "Val mIoU", "%", "highest"),
    Figure("val_miou_crf", "Val mIoU with CRF", "%", "highest"),
    *(Figure(name, title, "%", None) for name, _, title in _SHARES),
    Figure("seconds_per_image", "Mining time per image", "s", "lowest", 3),
    Figure("bytes_per_image", "Tables per image", "B", "lowest", 0),
    Figure("training_seconds", "Training time", "s", "lowest", 0),
)
"""The columns, in order."""
NOTES = (
    "Start cue: what a method that refines cues starts from; cue: the final cues of phase 0, on "
    "the training split; adapt cue: those of the last phase. Precision and recall are means over "
    "the classes that the ground truth shows, background among them; a class that no cue was given "
    "has no precision and is left out of that mean. Coverage is the share of pixels that are "
    "labelled at all; more is not better in itself, so that no value of it is marked. Published: "
    "labels of training images, among their tags; val: the network's own, without tags. Of full: "
    "the share in what the same network reaches that learned from true masks (truth=train).",
    "Mining time and tables per image: the sum, over all tables that the final network was learnt "
    "from (saliency, cues and whatever else a method mines; neither predictions nor evaluation), "
    "of a table's wall seconds and bytes by its rows. Training time: wall seconds of all trainings "
    "it was learnt from, its own among them. A stage that runs share was computed once and counts "
    "in full in every row; of a stage that was killed, the submission that ended it counts.",
    "Mean ± sample standard deviation over the seeds; a figure of stages that no seed decides is "
    "one measurement, with a spread of 0. The best mean of a column is marked.",
)
"""What the columns count, for the foot of the table."""


class Phases(NamedTuple):
    """The entries of ``metrics.json`` of the cues that the table shows.

    Attributes:
        first: Of phase 0.
        last: Of the last phase; None where that is phase 0.
        start: Of the cues that a method makes better, or of its first seeds; None without any.
    """

    first: Mapping[str, Any]
    last: Mapping[str, Any] | None = None
    start: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TableCost:
    """What one table cost: wall seconds, bytes, and its rows, one an image."""

    seconds: float
    bytes: int
    rows: int


@dataclass(frozen=True)
class Spread:
    """Mean of a figure over seeds.

    Attributes:
        mean: Arithmetic mean.
        deviation: Sample standard deviation; None of a single value.
        n: Number of values.
    """

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One combination.

    Attributes:
        settings: Short name of a key → value as it was written.
        run_ids: Its runs, by seed.
        figures: Name → mean and spread; None where no run measured it.
    """

    settings: Mapping[str, str]
    run_ids: Sequence[str]
    figures: Mapping[str, Spread | None]

    @property
    def label(self) -> str:
        """The settings as people read them."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


def measure(
    metrics: Mapping[str, Any],
    cues: Phases,
    tables: Sequence[TableCost],
    trainings: Sequence[float],
) -> dict[str, float | None]:
    """The figures of one run.

    Args:
        metrics: Its ``metrics.json``.
        cues: Those entries of it that are shown.
        tables: Cost of every table that its final network was learnt from.
        trainings: Wall seconds of every training that it was learnt from.

    Returns:
        A value for every name of :data:`FIGURES`: percent is 0-100, time in seconds.
    """
    val = metrics.get(VAL, {})
    return {
        "start_cue_miou": cues.start["miou"] if cues.start else None,
        **_of_cues("cue", cues.first["figures"]),
        **_of_cues("adapt_cue", cues.last["figures"] if cues.last else None),
        "published_miou": metrics.get(TRAIN, {}).get("miou_published"),
        "val_miou": val.get("miou"),
        "val_miou_crf": val.get("miou_crf"),
        "seconds_per_image": sum(table.seconds / max(table.rows, 1) for table in tables),
        "bytes_per_image": sum(table.bytes / max(table.rows, 1) for table in tables),
        "training_seconds": math.fsum(trainings),
        **dict.fromkeys(name for name, *_ in _SHARES),
    }


def beside_ceiling(
    measures: Sequence[Measures], ceiling: Sequence[Measures] | None
) -> list[Measures]:
    """The figures of runs with their shares in those of runs on true masks, seed by seed.

    Args:
        measures: One run a seed.
        ceiling: Runs of the same seeds; None where there are none.
    """
    if ceiling is None or ceiling is measures:
        return list(measures)
    return [
        {**run, **{name: _share(run[figure], full[figure]) for name, figure, _ in _SHARES}}
        for run, full in zip(measures, ceiling, strict=True)
    ]


def _share(value: float | None, whole: float | None) -> float | None:
    return 100 * value / whole if value is not None and whole else None


def class_mean(figures: Figures, name: Literal["precision", "recall"]) -> float | None:
    """Mean over the classes that the ground truth shows, background among them.

    A class that is labelled nowhere has no precision, and counts in recall alone.

    Returns:
        0-100; None where there is no ground truth.
    """
    shown = [c for c in figures["per_class"].values() if c["recall"] is not None]
    values = [value for c in shown if (value := c[name]) is not None]
    return statistics.fmean(values) if values else None


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and sample standard deviation of the values that were measured; None of none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation, len(known))


def make_row(
    settings: Mapping[str, str], run_ids: Sequence[str], measures: Sequence[Measures]
) -> Row:
    """The row of a combination from the figures of its runs, one a seed."""
    figures = {f.name: spread([m[f.name] for m in measures]) for f in FIGURES}
    return Row(settings, run_ids, figures)


def shown_figures(rows: Sequence[Row]) -> list[Figure]:
    """The columns that hold something in some row."""
    return [f for f in FIGURES if any(row.figures[f.name] is not None for row in rows)]


def best_rows(rows: Sequence[Row], figure: Figure) -> set[int]:
    """Indices of the rows whose mean is the best of a column.

    Means are compared as they are shown. Equal bests are all named; a column without a better end,
    or whose rows are all equal, has none.
    """
    found = {
        index: round(value.mean, figure.digits)
        for index, row in enumerate(rows)
        if (value := row.figures[figure.name])
    }
    if figure.best is None or len(set(found.values())) < 2:
        return set()
    top = max(found.values()) if figure.best == "highest" else min(found.values())
    return {index for index, mean in found.items() if mean == top}


def _of_cues(prefix: str, figures: Figures | None) -> dict[str, float | None]:
    return {
        f"{prefix}_precision": class_mean(figures, "precision") if figures else None,
        f"{prefix}_recall": class_mean(figures, "recall") if figures else None,
        f"{prefix}_miou": figures["miou"] if figures else None,
        f"{prefix}_coverage": figures["coverage"] if figures else None,
    }
