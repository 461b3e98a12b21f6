"""Which images a report shows: all of a corpus of some thousands, a choice of a larger one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.run.plan import Plan
from dcsp.stages.columns import read_columns
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY
from dcsp.tables.snapshot import TRAIN, VAL, CorpusPart

LISTED = 5000
"""Most images of a report."""
WORST = 500
"""Of a larger corpus, the images that are trusted least: each may cost the reading of a part."""
TRAIN_SHARE = 2 / 3
"""Share of the images at full size that are training images, which have cues to show."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Images of one part.

    Attributes:
        part: The part.
        full: Positions of live rows that are shown with every map and label, ascending.
        others: Positions of those that are shown small, ascending.
    """

    part: CorpusPart
    full: tuple[int, ...]
    others: tuple[int, ...]


def choose(store: Store, plan: Plan, listed: int = LISTED, worst: int = WORST) -> list[Chosen]:
    """The images of a report, in the order of the parts; none where it is to show none.

    Of a corpus that is too large these are the images that are trusted least, and the first ones of
    parts at even distances: their order is that of digests of ids, so that they are a random
    sample. Those at full size are, of each split, half the least trusted and half the first ones.

    Args:
        store: Of the run.
        plan: The run.
        listed: Most images.
        worst: Of a larger corpus, how many of the least trusted.

    Raises:
        StoreError: A table of the run is not there.
    """
    if not plan.config.report.gallery:
        return []
    parts = [part for part in plan.snapshot.parts if part.split in plan.config.corpus.splits]
    scores = list(_scores(store, plan, parts))
    taken = [np.zeros(len(of_part), bool) for of_part in scores]
    if sum(map(len, scores)) > listed:
        _take_least(scores, taken, worst)
        _take_evenly(taken, listed)
    else:
        for rows in taken:
            rows[:] = True
    full = _full(plan, parts, scores, taken)
    return [
        Chosen(
            part,
            tuple(np.flatnonzero(of_part).tolist()),
            tuple(np.flatnonzero(rows & ~of_part).tolist()),
        )
        for part, rows, of_part in zip(parts, taken, full, strict=True)
        if rows.any()
    ]


def _scores(store: Store, plan: Plan, parts: list[CorpusPart]) -> Iterator[NDArray[np.float32]]:
    """Trust of the live rows of each part: NaN where nothing is known of it."""
    steps = plan.of(Role.TRUST)
    is_rated = [bool(steps) and part.split in plan.labelled for part in parts]
    rated = [part.part for part, told in zip(parts, is_rated, strict=True) if told]
    others = [part.part for part, told in zip(parts, is_rated, strict=True) if not told]
    directory = steps[0].stage.key.directory if steps else ""
    found = {
        part.name: table["score"].to_numpy().astype(np.float32)
        for part, table in zip(
            rated, read_columns(store, directory, rated, ("image_id", "score")), strict=True
        )
    }
    for part, table in zip(
        others, read_columns(store, CORPUS_DIRECTORY, others, ("image_id",)), strict=True
    ):
        found[part.name] = np.full(table.num_rows, np.nan, np.float32)
    yield from (found[part.name] for part in parts)


def _take_least(
    scores: list[NDArray[np.float32]], taken: list[NDArray[np.bool_]], count: int
) -> None:
    """Take the rows of the lowest scores."""
    starts = np.cumsum([0, *map(len, scores)])
    whole = np.concatenate(scores)
    order = np.argsort(whole, kind="stable")  # NaN last
    least = order[: min(count, int(np.isfinite(whole).sum()))]
    for rows, start, end in zip(taken, starts, starts[1:], strict=False):
        rows[least[(least >= start) & (least < end)] - start] = True


def _take_evenly(taken: list[NDArray[np.bool_]], listed: int) -> None:
    """Take the first rows of parts at even distances: few files are read."""
    left = listed - sum(int(rows.sum()) for rows in taken)
    mean = max(1.0, sum(map(len, taken)) / len(taken))
    wanted = min(len(taken), int(left / mean) + 2)  # some rows are taken, or are not there
    places = np.linspace(0, len(taken) - 1, wanted).round().astype(int).tolist()
    for number, place in enumerate(places):
        free = np.flatnonzero(~taken[place])[: -(-left // (wanted - number))]
        taken[place][free] = True
        left -= len(free)


def _full(
    plan: Plan,
    parts: list[CorpusPart],
    scores: list[NDArray[np.float32]],
    taken: list[NDArray[np.bool_]],
) -> list[NDArray[np.bool_]]:
    """Of the rows that are taken, those that are shown at full size."""
    full = [np.zeros(len(rows), bool) for rows in taken]
    wanted = {TRAIN: round(plan.config.report.gallery * TRAIN_SHARE)}
    wanted[VAL] = plan.config.report.gallery - wanted[TRAIN]
    for split, count in wanted.items():
        places = [
            (index, row)
            for index, part in enumerate(parts)
            if part.split == split
            for row in np.flatnonzero(taken[index]).tolist()
        ]
        told = np.array([scores[index][row] for index, row in places], np.float32)
        known = np.flatnonzero(np.isfinite(told))
        least = known[np.argsort(told[known], kind="stable")][: count // 2].tolist()
        first = np.setdiff1d(np.arange(len(places)), least).tolist()
        for index, row in (places[place] for place in (least + first)[:count]):
            full[index][row] = True
    return full
