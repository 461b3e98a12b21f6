"""From a snapshot and what has changed since to the next snapshot.

Parts are never written again: images that were removed or replaced leave dead rows in theirs, and
new ones make new parts. Small parts, as many nights leave them, are joined without computing
anything again (:mod:`dcsp.corpus.compaction`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.corpus.catalogue import CATALOGUE, Changes, count_tags, listed_digest
from dcsp.corpus.pack import Record
from dcsp.corpus.sources.base import printable
from dcsp.tables.snapshot import TRAIN, CorpusPart


@dataclass(frozen=True)
class CorpusState:
    """Parts in order, and the catalogue of their live rows and of rejected images.

    Attributes:
        parts: Of the snapshot.
        catalogue: Its rows (:data:`dcsp.corpus.catalogue.CATALOGUE`).
    """

    parts: tuple[CorpusPart, ...] = ()
    catalogue: pa.Table = field(default_factory=CATALOGUE.empty_table)

    def counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Training images of each class, by name."""
        is_train = np.array([part.split == TRAIN for part in self.parts] + [False])
        rows = self.catalogue.filter(pa.array(is_train[self.catalogue["part"].to_numpy()]))
        return count_tags(rows, classes)

    def grow(self, changes: Changes, records: Sequence[Record]) -> CorpusState:
        """The state after the candidates were packed.

        Args:
            changes: Between the catalogue and the listing.
            records: Of the packed batches of the candidates, in order.
        """
        listed = {row.image_id: listed_digest(row) for row in changes.candidates}
        kept = _renewed(self.catalogue, changes.unchanged, records, listed)
        parts = _with_dead_rows(self.parts, kept)
        start = len(parts)
        fresh = [record for record in records if record["part"]]
        tables = [kept]
        for number, record in enumerate(fresh):
            tables.append(_rows_of(record, start + number, listed))
        packed = {image_id for record in records for image_id, *_ in record["rows"]}
        packed.update(image_id for record in records for image_id in record["same"])
        tables.append(_rejected({name: listed[name] for name in listed if name not in packed}))
        parts += [CorpusPart.of(record["part"]) for record in fresh]
        return CorpusState(tuple(parts), pa.concat_tables(tables))._arranged(
            [part.name for part in self.parts]
        )

    def joined(self, groups: Mapping[tuple[int, ...], CorpusPart]) -> CorpusState:
        """The state after some parts were joined.

        Args:
            groups: Indices of parts → the part that their live rows became, in this order; it takes
                the place of the first.
        """
        parts = list(self.parts)
        part, row = self._places()
        for indices, whole in groups.items():
            offset = 0
            for index in indices:
                rows = np.flatnonzero(part == index)
                rows = rows[np.argsort(row[rows])]
                part[rows], row[rows] = indices[0], offset + np.arange(len(rows))
                offset += len(rows)
                parts[index] = replace(parts[index], rows=0, dead=())
            parts[indices[0]] = whole
        return CorpusState(tuple(parts), _placed(self.catalogue, part, row))._arranged()

    def settled(self, lost: Sequence[int], refused: Sequence[str]) -> CorpusState:
        """The same without the images that have to be read again.

        Args:
            lost: Indices of parts whose images these are.
            refused: Ids of images in no part that need not be.
        """
        part = self.catalogue["part"].to_numpy()
        is_refused = pc.is_in(self.catalogue["image_id"], value_set=pa.array(refused, pa.string()))
        again = np.isin(part, lost) | ((part < 0) & ~is_refused.to_numpy())
        return replace(self, catalogue=self.catalogue.filter(pa.array(~again)))

    def _arranged(self, order: Sequence[str] = ()) -> CorpusState:
        """The same, empty parts left out; those of the named parts first, in the order of names."""
        rank = {name: number for number, name in enumerate(order)}
        left = [index for index, part in enumerate(self.parts) if part.live > 0]
        left.sort(key=lambda index: rank.get(self.parts[index].name, len(rank)))
        numbers = np.full(len(self.parts) + 1, -1)  # the last is for index −1
        numbers[left] = np.arange(len(left))
        part, row = self._places()
        parts = tuple(self.parts[index] for index in left)
        return CorpusState(parts, _placed(self.catalogue, numbers[part], row))

    def _places(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return self.catalogue["part"].to_numpy().copy(), self.catalogue["row"].to_numpy().copy()


def _renewed(
    catalogue: pa.Table,
    unchanged: NDArray[np.bool_],
    records: Iterable[Record],
    listed: Mapping[str, int],
) -> pa.Table:
    """The rows of the catalogue that stay; those read and found the same are listed anew."""
    same = [image_id for record in records for image_id in record["same"]]
    if not same:
        return catalogue.filter(pa.array(unchanged))
    names = pa.array(map(printable, same), pa.string())
    places = pc.index_in(names, value_set=catalogue["image_id"]).to_numpy()
    digests = catalogue["listed"].to_numpy().copy()
    digests[places] = [listed[image_id] for image_id in same]
    shown = pa.array(map(_masks(records).get, same), CATALOGUE.field("mask").type)
    source = np.arange(catalogue.num_rows)  # row of the catalogue, or past its end, of the new ones
    is_shown = shown.is_valid().to_numpy(zero_copy_only=False)
    source[places[is_shown]] = catalogue.num_rows + np.flatnonzero(is_shown)
    masks = pa.chunked_array([*catalogue["mask"].chunks, shown]).take(source)
    stays = unchanged.copy()
    stays[places] = True
    columns: dict[str, Any] = {name: catalogue[name] for name in CATALOGUE.names}
    columns |= {"listed": pa.array(digests), "mask": masks}
    return pa.table(columns, schema=CATALOGUE).filter(pa.array(stays))


def _masks(records: Iterable[Record]) -> dict[str, list[int]]:
    """Image id → ids that its mask shows; records of earlier versions do not say."""
    return {name: ids for record in records for name, ids in record.get("masks", {}).items()}


def _with_dead_rows(parts: Sequence[CorpusPart], kept: pa.Table) -> list[CorpusPart]:
    """The parts, rows dead that no row of the catalogue is in."""
    part, row = kept["part"].to_numpy(), kept["row"].to_numpy()
    order = np.lexsort((row, part))
    starts = np.searchsorted(part[order], np.arange(len(parts) + 1))
    found = []
    for number, old in enumerate(parts):
        live = row[order[starts[number] : starts[number + 1]]]
        is_dead = np.ones(old.rows, bool)
        is_dead[live] = False
        found.append(replace(old, dead=tuple(np.flatnonzero(is_dead).tolist())))
    return found


def _rows_of(record: Record, part: int, listed: Mapping[str, int]) -> pa.Table:
    ids, contents, tags = zip(*record["rows"], strict=True)
    columns: dict[str, Any] = {
        "image_id": [printable(image_id) for image_id in ids],
        "listed": [listed[image_id] for image_id in ids],
        "content": contents,
        "tags": tags,
        "part": [part] * len(ids),
        "row": range(len(ids)),
        "mask": [*map(_masks([record]).get, ids)],
    }
    return pa.table(columns, schema=CATALOGUE)


def _rejected(listed: Mapping[str, int]) -> pa.Table:
    columns: dict[str, Any] = {
        "image_id": [printable(image_id) for image_id in listed],
        "listed": list(listed.values()),
        "content": [0] * len(listed),
        "tags": [[]] * len(listed),
        "part": [-1] * len(listed),
        "row": [-1] * len(listed),
        "mask": [None] * len(listed),
    }
    return pa.table(columns, schema=CATALOGUE)


def _placed(
    catalogue: pa.Table, part: NDArray[np.integer[Any]], row: NDArray[np.integer[Any]]
) -> pa.Table:
    columns: dict[str, Any] = {name: catalogue[name] for name in CATALOGUE.names}
    columns |= {"part": pa.array(part, pa.int32()), "row": pa.array(row, pa.int32())}
    return pa.table(columns, schema=CATALOGUE)
