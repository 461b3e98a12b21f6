"""Parts of tables: zipped to be read, checked to be written, counted to be complete.

Every corpus row has exactly one row in every derived table, with a status: nothing is dropped.
Nothing here knows a stage; :mod:`dcsp.stages.stage` is built on it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from dcsp.errors import StoreError
from dcsp.stages.libraries import as_told, marked
from dcsp.stages.statuses import Counted, count_parts, count_statuses, remember
from dcsp.store.store import Store
from dcsp.tables.erased import is_blank
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.layout import CORPUS_DIRECTORY, STAGE_FILE, file_name, manifest_file, part_file
from dcsp.tables.schemas import HEAD_COLUMNS, OK, STATUSES
from dcsp.tables.snapshot import Part, Snapshot


@dataclass(frozen=True)
class TableInput:
    """Columns that a stage reads of another aligned table.

    Attributes:
        name: Prefix of the columns in the zipped part (``name.column``); ``""`` for the corpus.
        directory: Directory of the table in the store.
        columns: Columns to read.
        splits: Splits that the table has; rows of others have nulls. None: all.
    """

    name: str
    directory: str
    columns: tuple[str, ...]
    splits: tuple[str, ...] | None = None

    def column(self, column: str) -> str:
        """Name of one of the columns in the zipped part."""
        return f"{self.name}.{column}" if self.name else column

    def without(self, column: str) -> TableInput:
        """The same but for one column."""
        return replace(self, columns=tuple(name for name in self.columns if name != column))


CORPUS_INPUT = TableInput("", CORPUS_DIRECTORY, (*HEAD_COLUMNS, "tags", "bytes"))
"""What stages read of the corpus."""


@dataclass
class PartSummary:
    """What became of one part; summaries of a stage merge by addition."""

    part: str
    rows: int
    bytes: int
    statuses: Mapping[str, int] = field(default_factory=dict)


def pending_parts(store: Store, directory: str, parts: Sequence[Part]) -> list[Part]:
    """The parts that a table does not have yet, in order; costs one listing."""
    done = store.parts(directory)
    return [part for part in parts if part.name not in done]


def read_part(store: Store, inputs: Sequence[TableInput], part: str) -> pa.Table:
    """Zip one part of several aligned tables by row position.

    Raises:
        StoreError: A part is not there, or its rows are not those of the corpus part.
    """
    columns: dict[str, pa.ChunkedArray[Any]] = {}
    ids: pa.ChunkedArray[Any] | None = None
    for source in inputs:
        if ids is not None and not _has(source, columns):
            nulls = pa.chunked_array([pa.nulls(len(ids))])
            columns.update((source.column(column), nulls) for column in source.columns)
            continue
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


def _has(source: TableInput, corpus: Mapping[str, pa.ChunkedArray[Any]]) -> bool:
    """Whether a table has the part whose ``split`` was read of the corpus; a part is of one."""
    if source.splits is None:
        return True
    return set(corpus["split"].unique().to_pylist()) <= set(source.splits)


def live_rows(table: pa.Table, dead: Sequence[int]) -> pa.Table:
    """The rows of a part of any table without those that are no longer part of the corpus.

    Erased rows are left out where the ids are there to tell them.
    """
    is_live = np.ones(table.num_rows, bool)
    is_live[list(dead)] = False
    if "image_id" in table.column_names:
        is_live &= ~is_blank(table)
    if is_live.all():
        return table
    return table.filter(pa.array(is_live))


def live_positions(part: Part) -> tuple[int, ...]:
    """Positions of the rows of :func:`live_rows`."""
    dead = set(part.dead)
    return tuple(row for row in range(part.rows) if row not in dead)


def write_part(
    store: Store,
    directory: str,
    schema: pa.Schema,
    part: Part,
    rows: pa.Table,
    libraries: Sequence[str] = (),
) -> PartSummary:
    """Check the rows of one finished part against its schema and write them whole.

    Args:
        store: The store.
        directory: Of the table.
        schema: Of the table.
        part: The corpus part.
        rows: Of the table, in its order.
        libraries: Packages whose versions the file tells.

    Raises:
        RuntimeError: The number of rows is not that of the corpus part.
    """
    if rows.num_rows != part.rows:
        raise RuntimeError(
            f"{rows.num_rows} rows of the table {directory} were made of the {part.rows} rows of "
            f"part {part.name}: this is a fault of the stage; nothing was written."
        )
    table = marked(rows.select(schema.names).cast(schema), as_told(libraries))
    size = store.write_table(part_file(directory, part.name), table)
    return PartSummary(part.name, table.num_rows, size, count_statuses(table))


def begin_stage(store: Store, key: StageKey) -> None:
    """Write down what decides a table before its first part is written."""
    name = f"{key.directory}/{STAGE_FILE}"
    if not store.exists(name):
        store.write_json(name, key.as_dict())


def stage_version(store: Store, directory: str) -> int:
    """Version of the stage that made a table; the lowest where nobody wrote it down."""
    name = f"{directory}/{STAGE_FILE}"
    return int(store.read_json(name)["version"]) if store.exists(name) else 0


def scope(parts: Sequence[Part]) -> str:
    """Names the rows that a table must have to be complete for a snapshot of the corpus."""
    return digest([[part.name, *part.dead] if part.dead else part.name for part in parts])


def scopes(snapshot: Snapshot) -> dict[str, list[Part]]:
    """What tables can be complete for in a snapshot: scope → parts, for each choice of splits."""
    splits = sorted({part.split for part in snapshot.parts})
    choices = (choice for size in range(len(splits)) for choice in combinations(splits, size + 1))
    found = map(snapshot.of, choices)
    return {scope(parts): parts for parts in found}


def remember_parts(store: Store, directory: str, summaries: Iterable[PartSummary]) -> None:
    """Note beside a table what became of parts, so that nobody has to count their rows again."""
    remember(store, directory, _counted(summaries))


@dataclass(frozen=True)
class PartsMade:
    """What one submission did for a table.

    Attributes:
        summaries: Of the parts that it made.
        actors: Models that worked side by side; None where there was nothing to do.
    """

    summaries: Sequence[PartSummary] = ()
    actors: int | None = None


def complete_table(
    store: Store, key: StageKey, parts: Sequence[Part], made: PartsMade, seconds: float
) -> dict[str, Any]:
    """Write the manifest of a table for a snapshot: the last act of a stage.

    Args:
        store: The store.
        key: Of the stage.
        parts: Every part of the snapshot that the table must have.
        made: By this submission; other parts are counted by what is remembered of them, or from
            their rows.
        seconds: Wall time that this submission spent on the stage.

    Raises:
        StoreError: A part is missing, or does not have the rows of its corpus part.
    """
    directory, snapshot = key.directory, scope(parts)
    held = _count(store, directory, parts, _counted(made.summaries))
    manifest = {
        "stage": key.stage,
        "fingerprint": key.fingerprint,
        "snapshot": snapshot,
        "parts": len(parts),
        **held,
        "seconds": round(seconds, 3),
        "computed": sum(summary.rows for summary in made.summaries),
        "actors": made.actors,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    store.write_json(manifest_file(key, snapshot), manifest)
    return manifest


def recount(store: Store, manifest: str, parts: Sequence[Part]) -> None:
    """Write a manifest again whose parts have changed since.

    Args:
        store: The store.
        manifest: Its file, in the directory of its table.
        parts: Those that the table is complete for.

    Raises:
        StoreError: A part is missing, or does not have the rows of its corpus part.
    """
    told = store.read_json(manifest)
    now = told | _count(store, manifest.rpartition("/")[0], parts, {})
    if now != told:
        store.write_json(manifest, now)


def _count(
    store: Store, directory: str, parts: Sequence[Part], known: Mapping[str, Counted]
) -> dict[str, Any]:
    """What a table holds of some parts: ``rows`` by status, and ``bytes``."""
    sizes = store.sizes(directory)
    missing = [part.name for part in parts if file_name(part.name) not in sizes]
    if missing:
        raise StoreError(
            f"The table {directory} lacks {len(missing)} of {len(parts)} parts: "
            "submit the job again."
        )
    statuses: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))
    wanted = {part.name: sizes[file_name(part.name)] for part in parts}
    counted = count_parts(store, directory, wanted, known)
    for part in parts:
        found = counted[part.name].statuses
        if sum(found.values()) != part.rows:
            file = part_file(directory, part.name)
            raise StoreError(
                f"{store.path(file)} has {sum(found.values())} rows, its corpus part {part.rows}: "
                "remove it and submit the job again."
            )
        statuses.update(_live_statuses(store, directory, part, found))
    return {"rows": dict(statuses), "bytes": sum(wanted.values())}


def _live_statuses(
    store: Store, directory: str, part: Part, statuses: Mapping[str, int]
) -> Mapping[str, int]:
    """Images of each status: rows that are no longer part of the corpus are left out."""
    if not part.dead:
        return statuses
    if statuses[OK] == part.rows:
        return {OK: part.live}
    table = store.read_table(part_file(directory, part.name), ["status"])
    return count_statuses(live_rows(table, part.dead))


def _counted(summaries: Iterable[PartSummary]) -> dict[str, Counted]:
    return {s.part: Counted.of(s.bytes, s.statuses) for s in summaries}
