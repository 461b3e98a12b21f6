"""The gallery of a comparison: the same images, with the cues and labels of every combination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.evaluation.truth import read_truth
from dcsp.report.choice import TRAIN_SHARE
from dcsp.report.panels import decode_image
from dcsp.run.plan import Plan
from dcsp.stages.parts import CORPUS_INPUT, TableInput, read_part
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import TRAIN, VAL, CorpusPart, Masks

Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ComparedImage:
    """One image and what every combination made of it.

    Attributes:
        image_id: Id of the image.
        split: Its split.
        tags: Class ids, sorted.
        image: HWC uint8 RGB.
        truth: HW uint8 label map; None where there is none.
        made: Combination → title, such as ``"cue 0"`` or ``"prediction"`` → HW uint8 label map.
    """

    image_id: str
    split: str
    tags: Sequence[int]
    image: NDArray[np.uint8]
    truth: Labels | None = None
    made: Mapping[str, Mapping[str, Labels]] = field(default_factory=dict)


def compared_images(store: Store, plans: Mapping[str, Plan]) -> Iterator[ComparedImage]:
    """The images of the gallery of the first plan's settings, those with ground truth first.

    Two thirds are training images, which have cues to show. Only parts that the corpora of all
    combinations hold are looked at, in their order.

    Args:
        store: The store of all runs.
        plans: Label of a combination → one of its runs, finished.

    Raises:
        StoreError: A table of a run is not there.
    """
    first, *others = plans.values()
    held = [{part.name for part in plan.snapshot.parts} for plan in others]
    parts = [part for part in first.snapshot.parts if all(part.name in names for names in held)]
    wanted = first.config.report.gallery
    val = min(wanted - round(wanted * TRAIN_SHARE), sum(p.live for p in parts if p.split == VAL))
    for split, count in ((TRAIN, wanted - val), (VAL, val)):
        of_split = [part for part in parts if part.split == split]
        for part, rows in choose_rows(store, of_split, first.snapshot.masks, count):
            yield from _read(store, plans, part, rows)


def choose_rows(
    store: Store, parts: Sequence[CorpusPart], masks: Masks, count: int
) -> list[tuple[CorpusPart, list[int]]]:
    """The first rows of some parts that have a ground truth; the first ones where none has."""
    with_truth = _first(((part, _rows_with_truth(store, part, masks)) for part in parts), count)
    return with_truth or _first(((part, _live(part)) for part in parts), count)


def _first(
    choices: Iterator[tuple[CorpusPart, list[int]]], count: int
) -> list[tuple[CorpusPart, list[int]]]:
    found: list[tuple[CorpusPart, list[int]]] = []
    left = count
    for part, rows in choices:
        if left <= 0:
            break
        if rows:
            found.append((part, rows[:left]))
            left -= len(rows)
    return found


def _rows_with_truth(store: Store, part: CorpusPart, masks: Masks) -> list[int]:
    truth = read_truth(store, part, masks)
    if truth is None:
        return []
    statuses = truth["status"].to_pylist()
    return [row for row in _live(part) if statuses[row] == OK]


def _live(part: CorpusPart) -> list[int]:
    """Positions of the rows that are part of the corpus."""
    dead = set(part.dead)
    return [row for row in range(part.rows) if row not in dead]


def _read(
    store: Store, plans: Mapping[str, Plan], part: CorpusPart, rows: Sequence[int]
) -> Iterator[ComparedImage]:
    images = _rows(store, [CORPUS_INPUT], part, rows)
    masks: list[bytes | None] = [None] * len(rows)
    found = read_truth(store, part, next(iter(plans.values())).snapshot.masks)
    if found is not None:
        masks = found["label"].take(rows).to_pylist()
    made = {
        label: _rows(store, _label_tables(plan, part.split), part, rows)
        for label, plan in plans.items()
    }
    max_pixels = next(iter(plans.values())).config.corpus.max_pixels
    for index, (row, mask) in enumerate(zip(images, masks, strict=True)):
        yield ComparedImage(
            image_id=row["image_id"],
            split=part.split,
            tags=row["tags"],
            image=decode_image(row, max_pixels),
            truth=decode_labels(mask) if mask else None,
            made={label: _decoded(found[index]) for label, found in made.items()},
        )


def _label_tables(plan: Plan, split: str) -> list[TableInput]:
    """The cues of the first and the last phase, and the predictions, where they have the split."""
    tables = {}
    if split == TRAIN:
        phases = plan.cue_steps
        for phase in sorted({0, len(phases) - 1}):
            tables[f"cue {phase}"] = phases[phase].stage.key.directory
    if split in plan.labelled:
        tables["prediction"] = plan.of(Role.PREDICTIONS)[0].stage.key.directory
    return [TableInput(title, directory, ("label",)) for title, directory in tables.items()]


def _rows(
    store: Store, inputs: Sequence[TableInput], part: CorpusPart, rows: Sequence[int]
) -> list[dict[str, Any]]:
    if not inputs:
        return [{} for _ in rows]
    return read_part(store, inputs, part.name).take(rows).to_pylist()


def _decoded(row: Mapping[str, bytes | None]) -> dict[str, Labels]:
    return {name.removesuffix(".label"): decode_labels(data) for name, data in row.items() if data}
