"""What the tasks and actors of a stage do with the Arrow blocks that Ray hands them.

A part travels whole, with its name in a column; nothing here imports Ray or torch, so that a worker
that reads starts fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dcsp.tables.mapping import Device, Part, PartMap, TableInput, read_part, write_part
from dcsp.tables.schemas import ERROR, OK, SKIPPED
from dcsp.tables.store import Store
from dcsp.training.stream import PartSlice

if TYPE_CHECKING:
    from dcsp.training.stage import TrainStage

PART, ROWS = "_part", "_rows"
"""Columns that carry a part's name and size between tasks."""


class ReadParts:
    """Task: the zipped rows of parts; it takes no stage, which would bring torch along."""

    def __init__(self, store: Store, inputs: Sequence[TableInput]) -> None:
        self._store, self._inputs = store, inputs

    def __call__(self, items: pa.Table) -> pa.Table:
        """Rows of the parts that the items name."""
        return pa.concat_tables([self._read(Part(i[PART], i[ROWS])) for i in items.to_pylist()])

    def _read(self, part: Part) -> pa.Table:
        return _labelled(read_part(self._store, self._inputs, part.name), part)


def model_class(store: Store, stage: PartMap, device: Device) -> type:
    """An actor class that loads the model once and applies it to whole parts.

    Its arguments travel inside the class: Ray cannot restart an actor whose arguments are lost.
    """

    class Model:
        def __init__(self) -> None:
            self._model = stage.load(store, device)

        def __call__(self, table: pa.Table) -> pa.Table:
            return pa.concat_tables(
                [_labelled(self._model(rows), part) for part, rows in _by_part(table)]
            )

    return Model


class FinishAndWrite:
    """Task: the model's results become rows of the table, written whole; returns summaries."""

    def __init__(self, store: Store, stage: PartMap) -> None:
        self._store, self._stage = store, stage

    def __call__(self, table: pa.Table) -> pa.Table:
        """One row a part: its name, rows, bytes, and rows of each status."""
        return pa.Table.from_pylist([self._write(part, rows) for part, rows in _by_part(table)])

    def _write(self, part: Part, rows: pa.Table) -> dict[str, Any]:
        done = write_part(self._store, self._stage, part, self._stage.finish(rows))
        statuses = {name: done.statuses.get(name, 0) for name in (OK, SKIPPED, ERROR)}
        return {"part": done.part, "rows": done.rows, "bytes": done.bytes, **statuses}


class ReadSamples:
    """Task: the augmented samples of one slice of a part."""

    def __init__(self, store: Store, stage: TrainStage) -> None:
        self._store, self._stage = store, stage

    def __call__(self, items: dict[str, Any]) -> dict[str, Any]:
        """The samples of the one piece that the items name, stacked."""
        (piece,) = items["piece"]
        return dict(self._stage.read(self._store, PartSlice(*json.loads(piece))))


def windows(pieces: Sequence[PartSlice], samples: int) -> Iterator[list[PartSlice]]:
    """Slices in order, as many together as hold about so many samples."""
    window: list[PartSlice] = []
    held = 0
    for piece in pieces:
        window.append(piece)
        held += piece.stop - piece.start
        if held >= samples:
            yield window
            window, held = [], 0
    if window:
        yield window


def _labelled(rows: pa.Table, part: Part) -> pa.Table:
    names = pa.array([part.name] * rows.num_rows, pa.string())
    sizes = pa.array([part.rows] * rows.num_rows, pa.int64())
    return rows.append_column(PART, names).append_column(ROWS, sizes)


def _by_part(table: pa.Table) -> Iterator[tuple[Part, pa.Table]]:
    """Each part of a block: blocks of several small parts can have been joined."""
    names: list[Any] = table[PART].to_pylist()
    sizes: list[Any] = table[ROWS].to_pylist()
    rows = table.drop_columns([PART, ROWS])
    start = 0
    for stop in range(1, len(names) + 1):
        if stop == len(names) or names[stop] != names[start]:
            yield Part(names[start], sizes[start]), rows.slice(start, stop - start)
            start = stop
