"""Which of the listed rows are taken, and which of them are read together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from dcsp.corpus.held import Piece
from dcsp.corpus.rejected import DUPLICATE, Row, rejection
from dcsp.corpus.sources.base import SourceRow, is_split, printable
from dcsp.tables.schemas import REJECTED


@dataclass(frozen=True)
class Batch:
    """Rows to read together.

    Attributes:
        rows: Of one split, at most as many as a part has.
        known: Id → content digest of rows that are in the corpus already.
        held: Where the store has the images of all rows, if it does; it decides nothing.
    """

    rows: Sequence[SourceRow]
    known: Mapping[str, int] = field(default_factory=dict)
    held: Piece | None = None


def select_rows(
    rows: Iterable[SourceRow], limit: int | None = None
) -> tuple[list[SourceRow], pa.Table]:
    """Drop rows whose id is taken, as tables print it, and take the wanted number per split.

    Of the rows of one id the first by split and uri stays, a row without a known split last. A
    limit takes the first ids of each split in hash order: a larger limit keeps what a smaller one
    took.

    Returns:
        Rows by split, in hash order of their ids; and the rejected table of the duplicates.
    """
    ordered = sorted(rows, key=_place)
    kept: defaultdict[str, list[SourceRow]] = defaultdict(list)
    rejected: list[Row] = []
    first: SourceRow | None = None
    for row in ordered:
        if first is not None and printable(first.image_id) == printable(row.image_id):
            message = f"the id {row.image_id!r} is taken by {first.uri} ({first.split})"
            rejected.append(rejection(row, "list", DUPLICATE, message))
            continue
        first = row
        kept[row.split].append(row)
    selected = [row for split in sorted(kept) for row in kept[split][:limit]]
    return selected, pa.Table.from_pylist(rejected, REJECTED)


def plan_batches(rows: Iterable[SourceRow], part_rows: int) -> list[list[SourceRow]]:
    """Put rows into the batches that become parts: one split each, at most ``part_rows`` rows.

    Rows are in hash order of their ids, so that a part is a random sample of its split; rows of a
    sharded source stay with the rows of their shard.
    """
    groups: defaultdict[tuple[str, str], list[SourceRow]] = defaultdict(list)
    for row in rows:
        groups[row.split, row.shard].append(row)
    batches: list[list[SourceRow]] = []
    for key in sorted(groups, key=lambda key: (key[0], _hash(key[1]) if key[1] else "")):
        group = sorted(groups[key], key=lambda row: (_hash(row.image_id), row.image_id))
        batches += [group[i : i + part_rows] for i in range(0, len(group), part_rows)]
    return batches


def _place(row: SourceRow) -> tuple[str, str, bool, str, str]:
    name = printable(row.image_id)
    return _hash(name), name, not is_split(row.split), row.split, row.uri


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
