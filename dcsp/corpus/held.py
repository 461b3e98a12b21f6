"""Images that the store holds already, by whatever settings they were ingested before.

Other classes, synonyms, limits or sizes of parts make another corpus of the same images. An image
that is listed as it was is taken from its earlier part, and is not asked of the source again; its
neighbours there stay its neighbours, so that a part of which nothing changes is found again, with
all that was computed of it. Rows of tables that depend on images alone move with their images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.corpus.catalogue import listed_digest
from dcsp.corpus.sources.base import SourceRow
from dcsp.stages.libraries import makers, marked
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, LINEAGES, catalogue_file, part_file, snapshot_file
from dcsp.tables.snapshot import Snapshot

_FIRST_PACK = 4
"""Version of packing of lineages whose file does not tell it."""


class Stored(NamedTuple):
    """An image of a part.

    Attributes:
        data: The image file.
        size: (height, width) in pixels of the upright image.
    """

    data: bytes
    size: tuple[int, int]


class Piece(NamedTuple):
    """Rows of a part, which every table has at the same places.

    Attributes:
        part: Name of the part.
        rows: Their positions, in order.
    """

    part: str
    rows: tuple[int, ...]

    def of(self, table: pa.Table) -> pa.Table:
        """These rows of a table's part."""
        return table if len(self.rows) == table.num_rows else table.take(list(self.rows))


class Group(NamedTuple):
    """Listed rows whose images are in one part.

    Attributes:
        rows: As they are listed now, in the order of the part.
        piece: Where each is.
    """

    rows: list[SourceRow]
    piece: Piece


def compose(store: Store, directories: Iterable[str], name: str, pieces: Sequence[Piece]) -> None:
    """Write a part of every table that has all of its pieces; nothing is computed.

    Args:
        store: The store.
        directories: Of the tables.
        name: Of the part.
        pieces: What its rows are, in order.

    Raises:
        StoreError: A part cannot be read or written.
    """
    for directory in directories:
        files = [part_file(directory, piece.part) for piece in pieces]
        if all(map(store.exists, files)):
            rows = [p.of(store.read_table(file)) for file, p in zip(files, pieces, strict=True)]
            made_by = [told for table in rows for told in makers(table)]
            whole = marked(pa.concat_tables(rows), made_by)
            store.write_table(part_file(directory, name), whole)


def read_images(store: Store, piece: Piece) -> dict[str, Stored]:
    """Id → image of some rows of a part.

    Raises:
        StoreError: The part cannot be read.
    """
    columns = ["image_id", "bytes", "height", "width"]
    table = piece.of(store.read_table(part_file(CORPUS_DIRECTORY, piece.part), columns))
    values = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return {image_id: Stored(data, (height, width)) for image_id, data, height, width in values}


@dataclass(frozen=True)
class Origin:
    """What an ingest knows of a source, to be compared with what earlier ones knew of theirs.

    Attributes:
        lineage: Of its snapshots.
        source: Digest of the source and its settings.
        pack: Version of packing.
    """

    lineage: str
    source: str
    pack: int

    def told(self) -> dict[str, str | int]:
        """As the file of the lineage has it."""
        return {"source": self.source, "pack": self.pack}


def find_held(
    store: Store, origin: Origin, rows: Sequence[SourceRow], part_rows: int
) -> tuple[list[Group], list[SourceRow]]:
    """Which of some listed rows are in parts of other lineages.

    What a row says must be what it was then, its etag included. A row without an etag, as that of a
    URL, counts only if the source had the same settings: they say what may be fetched.

    Args:
        store: The store.
        origin: Of the rows.
        rows: Rows that the lineage itself does not hold as they are.
        part_rows: Most rows of a group.

    Returns:
        Groups in the order of their parts, those of the lineage that holds most first; and the rows
        that nobody holds, in order.

    Raises:
        StoreError: A snapshot or catalogue cannot be read.
    """
    left = np.ones(len(rows), bool)
    groups: list[Group] = []
    if rows:
        digests = np.fromiter(map(listed_digest, rows), np.uint64, len(rows))
        has_etag = np.fromiter((bool(row.etag) for row in rows), bool, len(rows))
        found = _kin(store, origin, digests)
        kin = [(k, k.holds(digests) & (has_etag | k.same_source)) for k in found]
        for k, held in sorted(kin, key=lambda pair: -int(np.count_nonzero(pair[1]))):
            groups += k.groups(rows, digests, np.flatnonzero(held & left), part_rows)
            left &= ~held
    return groups, [rows[index] for index in np.flatnonzero(left).tolist()]


@dataclass(frozen=True)
class _Kin:
    """Of the last snapshot of another lineage: which wanted row is where, sorted by digest."""

    parts: tuple[str, ...]
    listed: NDArray[np.uint64]
    part: NDArray[np.int32]
    row: NDArray[np.int32]
    same_source: bool

    def holds(self, digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return np.isin(digests, self.listed)

    def groups(
        self,
        rows: Sequence[SourceRow],
        digests: NDArray[np.uint64],
        chosen: NDArray[np.intp],
        part_rows: int,
    ) -> Iterator[Group]:
        places = np.searchsorted(self.listed, digests[chosen])
        part, row = self.part[places], self.row[places]
        order = np.lexsort((row, part))
        part, row, chosen = part[order], row[order], chosen[order]
        for number in np.unique(part).tolist():
            first, last = np.searchsorted(part, [number, number + 1]).tolist()
            for start in range(first, last, part_rows):
                one = slice(start, min(start + part_rows, last))
                piece = Piece(self.parts[number], tuple(row[one].tolist()))
                yield Group([rows[index] for index in chosen[one].tolist()], piece)


def _kin(store: Store, origin: Origin, wanted: NDArray[np.uint64]) -> Iterator[_Kin]:
    there = store.parts(CORPUS_DIRECTORY)
    for file in store.list(LINEAGES):
        told = store.read_json(f"{LINEAGES}/{file}")
        fingerprint = told["snapshot"]
        needed = (snapshot_file(fingerprint), catalogue_file(fingerprint))
        if (
            file == f"{origin.lineage}.json"
            or told.get("pack", _FIRST_PACK) != origin.pack
            or not all(map(store.exists, needed))
        ):
            continue
        parts = tuple(part.name for part in Snapshot.load(store, fingerprint).parts)
        table = store.read_table(catalogue_file(fingerprint), ["listed", "part", "row"])
        listed, part, row = (table[name].to_numpy() for name in table.column_names)
        is_there = np.array([*(name in there for name in parts), False])  # the last is for −1
        kept = np.flatnonzero(np.isin(listed, wanted) & is_there[part] & (listed != 0))
        kept = kept[np.argsort(listed[kept], kind="stable")]
        same_source = told.get("source") == origin.source
        yield _Kin(parts, listed[kept], part[kept], row[kept], same_source)
