"""What the tasks and actors of a stage do with the Arrow blocks that Ray hands them.

A part travels as one row: its name, its size, and its rows as one value. Ray cuts and joins blocks
between rows, and so never cuts a part or joins two. Nothing here imports Ray or torch, so that a
worker that reads starts fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dcsp.stages.parts import TableInput, read_part
from dcsp.stages.stage import Device, TableStage
from dcsp.store.store import Store
from dcsp.tables.schemas import STATUSES
from dcsp.tables.snapshot import Part
from dcsp.training.stream import PartSlice

if TYPE_CHECKING:
    from dcsp.training.stage import TrainStage

PART, ROWS, TABLE = "part", "rows", "table"
"""Columns of what travels: a part's name, how many rows it has, and these as an Arrow stream."""


def _nothing() -> None:
    """What a process does before its first block, where nobody collects its numbers."""


class ReadParts:
    """Task: the zipped rows of parts; it takes no stage, which would bring torch along."""

    def __init__(
        self, store: Store, inputs: Sequence[TableInput], begin: Callable[[], None] = _nothing
    ) -> None:
        self._store, self._inputs, self._begin = store, inputs, begin

    def __call__(self, items: pa.Table) -> pa.Table:
        """The parts that the items name."""
        self._begin()
        parts = [Part(item[PART], item[ROWS]) for item in items.to_pylist()]
        return _join(_packed(p, read_part(self._store, self._inputs, p.name)) for p in parts)


def model_class(
    store: Store, stage: TableStage, device: Device, begin: Callable[[], None] = _nothing
) -> type:
    """An actor class that loads the model once and applies it to whole parts.

    Its arguments travel inside the class: Ray cannot restart an actor whose arguments are lost.
    """

    class Model:
        def __init__(self) -> None:
            begin()
            self._model = stage.load(store, device)

        def __call__(self, block: pa.Table) -> pa.Table:
            return _join(_packed(part, self._model(rows)) for part, rows in _unpacked(block))

    return Model


class FinishAndWrite:
    """Task: the model's results become rows of the table, written whole; returns summaries."""

    def __init__(
        self, store: Store, stage: TableStage, begin: Callable[[], None] = _nothing
    ) -> None:
        self._store, self._stage, self._begin = store, stage, begin

    def __call__(self, block: pa.Table) -> pa.Table:
        """One row a part: its name, rows, bytes, and rows of each status."""
        self._begin()
        return pa.Table.from_pylist([self._write(part, rows) for part, rows in _unpacked(block)])

    def _write(self, part: Part, rows: pa.Table) -> dict[str, Any]:
        done = self._stage.write(self._store, part, self._stage.finish(rows))
        statuses = {name: done.statuses.get(name, 0) for name in STATUSES}
        return {"part": done.part, "rows": done.rows, "bytes": done.bytes, **statuses}


class ReadSamples:
    """Task: the augmented samples of one slice of a part."""

    def __init__(
        self, store: Store, stage: TrainStage, begin: Callable[[], None] = _nothing
    ) -> None:
        self._store, self._stage, self._begin = store, stage, begin

    def __call__(self, items: dict[str, Any]) -> dict[str, Any]:
        """The samples of the one piece that the items name, stacked."""
        self._begin()
        (piece,) = items["piece"]
        return dict(self._stage.read(self._store, PartSlice.from_json(json.loads(piece))))


def windows(pieces: Sequence[PartSlice], samples: int) -> Iterator[list[PartSlice]]:
    """Slices in order, as many together as hold about so many samples."""
    window: list[PartSlice] = []
    held = 0
    for piece in pieces:
        window.append(piece)
        held += piece.samples
        if held >= samples:
            yield window
            window, held = [], 0
    if window:
        yield window


def _packed(part: Part, rows: pa.Table) -> pa.Table:
    """A part as one row."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    stream = sink.getvalue()
    ends = pa.py_buffer(np.array([0, stream.size], np.int64).tobytes())
    column: pa.Array[Any] = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, stream])
    names, sizes = pa.array([part.name], pa.string()), pa.array([part.rows], pa.int64())
    return pa.Table.from_arrays([names, sizes, column], names=[PART, ROWS, TABLE])


def _unpacked(block: pa.Table) -> Iterator[tuple[Part, pa.Table]]:
    """Each part of a block, without a copy of its rows."""
    columns = (block[name] for name in (PART, ROWS, TABLE))
    for name, size, stream in zip(*columns, strict=True):
        with pa.ipc.open_stream(stream.as_buffer()) as reader:
            yield Part(name.as_py(), size.as_py()), reader.read_all()


def _join(parts: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables(list(parts))
