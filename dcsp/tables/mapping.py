"""Tables made image by image: one part of the corpus in, one aligned part of a derived table out.

A :class:`PartMap` says what a stage reads and how it turns rows into rows; it knows nothing of
where it runs. ``jobs`` spreads parts over a Ray cluster; :func:`run_part` does one part here.
Every corpus row has exactly one row in the derived table, with a status: nothing is dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from dcsp.errors import StoreError
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import ERROR, OK, SKIPPED
from dcsp.tables.store import Store

CORPUS_DIRECTORY = "corpus/parts"
STAGE_FILE = "stage.json"

PartModel = Callable[[pa.Table], pa.Table]
"""A loaded model: the rows of one part in, the same rows with raw results as columns out."""


@dataclass(frozen=True)
class Part:
    """One part of a corpus: its name (a digest of its rows) and its number of rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class TableInput:
    """Columns that a stage reads of another aligned table.

    Attributes:
        name: Prefix of the columns in the zipped part (``name.column``); ``""`` for the corpus.
        directory: Directory of the table in the store.
        columns: Columns to read.
    """

    name: str
    directory: str
    columns: tuple[str, ...]

    def column(self, column: str) -> str:
        """Name of one of the columns in the zipped part."""
        return f"{self.name}.{column}" if self.name else column


@dataclass(frozen=True)
class Device:
    """Where a model runs: a torch device name and the CPU threads it may use."""

    name: str = "cpu"
    threads: int = 1


class PartMap(Protocol):
    """A stage that makes one table image by image. Implementations are frozen and picklable."""

    @property
    def key(self) -> StageKey:
        """What decides the table; its stage name is the table's name in the store."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Schema of the table."""
        ...

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What is read; the corpus first, with ``image_id``, ``height`` and ``width``."""
        ...

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the model once; runs on the worker that will use it."""
        ...

    def finish(self, rows: pa.Table) -> pa.Table:
        """Turn the model's raw results into the table's rows: CPU work without a model."""
        ...


@dataclass
class PartSummary:
    """What became of one part; summaries of a stage merge by addition."""

    part: str
    rows: int
    bytes: int
    statuses: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self)


def part_file(directory: str, part: str) -> str:
    """File of one part of a table."""
    return f"{directory}/{part}.parquet"


def pending_parts(store: Store, stage: PartMap, parts: Sequence[Part]) -> list[Part]:
    """The parts whose rows are not there yet, in order; costs one listing."""
    done = store.parts(stage.key.directory)
    return [part for part in parts if part.name not in done]


def read_part(store: Store, inputs: Sequence[TableInput], part: str) -> pa.Table:
    """Zip one part of several aligned tables by row position.

    Raises:
        StoreError: A part is not there, or its rows are not those of the corpus part.
    """
    columns: dict[str, pa.ChunkedArray[Any]] = {}
    ids: pa.ChunkedArray[Any] | None = None
    for source in inputs:
        name = part_file(source.directory, part)
        wanted = dict.fromkeys(("image_id", *source.columns))
        table = store.read_table(name, list(wanted))
        if ids is None:
            ids = table["image_id"]
        elif not ids.equals(table["image_id"]):
            raise StoreError(
                f"{store.path(name)} does not hold the rows of its corpus part: remove it and "
                "submit the job again."
            )
        for column in source.columns:
            columns[source.column(column)] = table[column]
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def write_part(store: Store, stage: PartMap, part: Part, rows: pa.Table) -> PartSummary:
    """Check the rows of one finished part against its schema and write them whole.

    Raises:
        StoreError: The number of rows is not that of the corpus part.
    """
    if rows.num_rows != part.rows:
        raise StoreError(
            f"The stage {stage.key.stage} made {rows.num_rows} rows of the {part.rows} rows of "
            f"part {part.name}: this is a fault of the stage; nothing was written."
        )
    table = rows.select(stage.schema.names).cast(stage.schema)
    size = store.write_table(part_file(stage.key.directory, part.name), table)
    return PartSummary(part.name, table.num_rows, size, _count_statuses(table))


def run_part(store: Store, stage: PartMap, model: PartModel, part: Part) -> PartSummary:
    """Do one part in this process: read, model, finish, write."""
    rows = model(read_part(store, stage.inputs, part.name))
    return write_part(store, stage, part, stage.finish(rows))


def run_parts_here(
    store: Store, stage: PartMap, parts: Sequence[Part], device: Device | None = None
) -> list[PartSummary]:
    """Do the pending parts one after the other in this process, without Ray."""
    pending = pending_parts(store, stage, parts)
    if not pending:
        return []
    begin_stage(store, stage.key)
    model = stage.load(store, device or Device())
    return [run_part(store, stage, model, part) for part in pending]


def begin_stage(store: Store, key: StageKey) -> None:
    """Write down what decides a table before its first part is written."""
    name = f"{key.directory}/{STAGE_FILE}"
    if not store.exists(name):
        store.write_json(name, key.as_dict())


def manifest_file(key: StageKey, snapshot: str) -> str:
    """File that says that a table is complete for a snapshot of the corpus."""
    return f"{key.directory}/complete-{snapshot}.json"


def complete_stage(
    store: Store,
    stage: PartMap,
    snapshot: str,
    parts: Sequence[Part],
    summaries: Sequence[PartSummary],
    seconds: float,
) -> dict[str, Any]:
    """Write the manifest of a table for a snapshot: the last act of a stage.

    Args:
        store: The store.
        stage: The stage.
        snapshot: Fingerprint of the corpus snapshot, with the splits that were asked for.
        parts: Every part of the snapshot that the table must have.
        summaries: Of the parts that this submission did; other parts are counted from their rows.
        seconds: Wall time that this submission spent on the stage.

    Raises:
        StoreError: A part is missing, or does not have the rows of its corpus part.
    """
    directory = stage.key.directory
    sizes = store.sizes(directory)
    missing = [part.name for part in parts if f"{part.name}.parquet" not in sizes]
    if missing:
        raise StoreError(
            f"The table {directory} lacks {len(missing)} of {len(parts)} parts: "
            "submit the job again."
        )
    statuses: Counter[str] = Counter({OK: 0, SKIPPED: 0, ERROR: 0})
    counted = {summary.part: summary.statuses for summary in summaries}
    for part in parts:
        file = part_file(directory, part.name)
        found = counted.get(part.name) or _count_statuses(store.read_table(file, ["status"]))
        if sum(found.values()) != part.rows:
            raise StoreError(
                f"{store.path(file)} has {sum(found.values())} rows, its corpus part {part.rows}: "
                "remove it and submit the job again."
            )
        statuses.update(found)
    manifest = {
        "stage": stage.key.stage,
        "fingerprint": stage.key.fingerprint,
        "snapshot": snapshot,
        "parts": len(parts),
        "rows": dict(statuses),
        "bytes": sum(sizes[f"{part.name}.parquet"] for part in parts),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    store.write_json(manifest_file(stage.key, snapshot), manifest)
    return manifest


def _count_statuses(table: pa.Table) -> dict[str, int]:
    return dict(Counter(map(str, table["status"].to_pylist())))
