"""Sources whose rows lie in shards: listed shard by shard, and a shard that stays is listed once.

One directory listing names the shards. What a shard lists is kept in the store, under a digest of
its address, its etag and the source's settings: only new and changed shards are opened, by whatever
the caller spreads them over, such as the tasks of a cluster.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa

from dcsp.corpus.sources.base import Listed, Source, SourceRow, printable
from dcsp.corpus.sources.files import (
    FILE,
    etag_of,
    kind_of,
    require_folder,
    require_same,
    stem,
)
from dcsp.errors import CorpusError, DcspError, PlaceError
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.erased import ERASED, ERASED_ID, Erased, load_erased
from dcsp.tables.fingerprint import digest_lines
from dcsp.tables.layout import SHARDS, part_file

LISTING_VERSION = "3"
"""Raised whenever the same shard would be listed another way."""
UNREADABLE, TRUNCATED, DAMAGED = "unreadable_shard", "truncated_shard", "damaged_shard"
SHARD_FAULTS = (UNREADABLE, TRUNCATED, DAMAGED)
"""Reasons of the row that tells of a shard which could not be listed to its end."""


@dataclass(frozen=True)
class Shard:
    """A file that holds many rows.

    Attributes:
        uri: Where it is.
        name: Its path below the root without extension, which ids of its rows begin with.
        etag: Changes when its bytes do.
    """

    uri: str
    name: str
    etag: str


class ShardedSource(ABC):
    """A source of shards; a frozen dataclass of settings, whose ``repr`` decides what is listed."""

    splits: tuple[str, ...]

    @abstractmethod
    def shards(self) -> tuple[list[Shard], Counter[str]]:
        """Every shard, and what else lies beside them, from one directory listing; none is opened.

        Raises:
            CorpusError: There is none.
        """

    @abstractmethod
    def list_shard(self, shard: Shard) -> Listed:
        """The rows of one shard, in its order, and what else is in it; images are not read.

        A shard that ends too early, or is damaged further on, gives the rows before that and
        one that tells of it (:meth:`fault`).

        Raises:
            CorpusError: Nothing in it can be listed.
            ImageError: It went away, or may not be read.
        """

    @abstractmethod
    def read(self, row: SourceRow) -> bytes:
        """As :meth:`dcsp.corpus.sources.base.Source.read`."""

    @abstractmethod
    def read_mask(self, row: SourceRow) -> bytes | None:
        """As :meth:`dcsp.corpus.sources.base.Source.read_mask`."""

    def list_rows(self) -> Listed:
        """The rows of all shards, each opened here; see :class:`Source`."""
        shards, beside = self.shards()
        return _together(map(self.list_shard, shards), beside)

    def fault(self, shard: Shard, reason: str, message: str) -> SourceRow:
        """A row that tells of a shard; its id is that of no image."""
        return SourceRow(
            image_id=f"{shard.name}/",
            uri=shard.uri,
            split=self.splits[0],
            tags=(),
            mask_uri=None,
            etag=shard.etag,
            shard=shard.uri,
            problem=message,
            reason=reason,
        )


@dataclass(frozen=True)
class ShardLister:
    """Lists shards of one source and keeps what they list; picklable, for any worker."""

    store: Store
    source: ShardedSource
    erased: Erased

    def __call__(self, shard: Shard) -> int:
        """List one shard and keep its rows; returns their number.

        What is wrong with its bytes is kept as well. What lies outside of it, such as permissions,
        is not: the next listing looks again.

        Raises:
            PlaceError: The place of the shards fails: that says nothing of this one.
        """
        try:
            listed = self._list(shard)
        except PlaceError:
            raise
        except CorpusError as error:
            listed = self._unreadable(shard, error)
        except DcspError:
            return 0
        listed = without_erased(listed, self.erased)
        self.store.write_table(self._file(shard), _to_table(listed))
        return len(listed.rows)

    def pending(self, shards: Sequence[Shard]) -> list[Shard]:
        """The shards whose rows are not kept, from one directory listing."""
        kept = self.store.parts(SHARDS)
        return [shard for shard in shards if self._name(shard) not in kept]

    def kept(self, shard: Shard) -> Listed:
        """The rows of a shard that was listed before.

        Raises:
            StoreError: They are not there or damaged.
        """
        return _from_table(self.store.read_table(self._file(shard)))

    def told(self, shard: Shard) -> Listed:
        """The rows of a shard that cannot be opened; of one that can be by now, its own.

        Raises:
            PlaceError: The place of the shards fails.
        """
        try:
            return _from_table(_to_table(self._list(shard)))
        except PlaceError:
            raise
        except DcspError as error:
            return self._unreadable(shard, error)

    def _list(self, shard: Shard) -> Listed:
        """The rows of a shard that stayed as it was meanwhile: they are kept under its etag."""
        listed = self.source.list_shard(shard)
        require_same(shard.uri, shard.etag)
        return listed

    def _unreadable(self, shard: Shard, error: DcspError) -> Listed:
        return Listed.of([self.source.fault(shard, UNREADABLE, str(error).rstrip("."))])

    def _file(self, shard: Shard) -> str:
        return part_file(SHARDS, self._name(shard))

    def _name(self, shard: Shard) -> str:
        return digest_lines([LISTING_VERSION, repr(self.source), repr(shard)])


def without_erased(listed: Listed, erased: Erased) -> Listed:
    """The same; rows of images that were erased say no more than that, each in its split."""
    if not erased.ids:
        return listed
    return replace(listed, rows=[_without(row, erased) for row in listed.rows])


def _without(row: SourceRow, erased: Erased) -> SourceRow:
    if not erased.has(printable(row.image_id)):
        return row
    return SourceRow(
        ERASED_ID,
        uri="",
        split=row.split,
        tags=(),
        mask_uri=None,
        etag="",
        shard=row.shard,
        problem="it was erased from the store: remove it at the source as well",
        reason=ERASED,
    )


def hide_erased(store: Store, erased: Erased) -> int:
    """Hide what was erased in the kept rows of shards; returns how many files changed.

    Raises:
        StoreError: Rows of a shard cannot be read or written.
    """
    files = 0
    for name in sorted(store.parts(SHARDS)):
        table = store.read_table(part_file(SHARDS, name))
        if _ASIDE not in (table.schema.metadata or {}):  # of an earlier version, read by none
            store.remove(part_file(SHARDS, name))
            files += 1
            continue
        listed = _from_table(table)
        hidden = without_erased(listed, erased)
        if hidden != listed:
            store.write_table(part_file(SHARDS, name), _to_table(hidden))
            files += 1
    return files


Spread = Callable[[ShardLister, Sequence[Shard]], object]
"""Applies a lister to shards, wherever and in whatever order."""


def not_now(_: ShardLister, shards: Sequence[Shard]) -> None:
    """List none: for those who only look.

    Raises:
        CorpusError: Always.
    """
    raise CorpusError(
        f"The corpus has {len(shards)} new or changed shard(s): ingest lists them first."
    )


def list_rows(store: Store, source: Source, limit: float, spread: Spread) -> Listed:
    """All that a source holds; of one with shards, only those that changed are opened.

    Args:
        store: Where listings of shards are kept.
        source: What to list.
        limit: Largest share of the shards that may be unreadable or damaged.
        spread: What opens new shards.

    Raises:
        CorpusError: The source is not there or not laid out as its kind demands, or more shards
            than that cannot be listed to their end.
    """
    if not isinstance(source, ShardedSource):
        return source.list_rows()
    lister = ShardLister(store, source, load_erased(store))
    shards, beside = source.shards()
    if left := lister.pending(shards):
        spread(lister, left)
        left = lister.pending(left)  # what cannot be opened
    told = [lister.told(shard) for shard in left]
    closed = set(left)
    kept = [shard for shard in shards if shard not in closed]
    with read_ahead(lister.kept, kept) as listed:
        found = _together([*told, *listed], beside)
    faults = [row for row in found.rows if row.reason in SHARD_FAULTS]
    if len(faults) > limit * len(shards):
        raise CorpusError(
            f"{len(faults)} of {len(shards)} shards cannot be listed to their end, more than "
            f"corpus.max_rejected_share={limit:g} (first: {faults[0].uri}: {faults[0].problem}): "
            "mend them or raise the limit."
        )
    return found


def _together(parts: Iterable[Listed], beside: Counter[str]) -> Listed:
    """What several shards hold, and what lies beside them."""
    rows: list[SourceRow] = []
    found, skipped, others = beside.total(), 0, Counter(beside)
    for part in parts:
        rows += part.rows
        found, skipped = found + part.found, skipped + part.skipped
        others.update(part.others)
    return Listed(rows, found, skipped, others)


def find_shards(root: str, ending: str, kind: str) -> tuple[list[Shard], Counter[str]]:
    """The files of a kind below a folder, or the one file that the root is; and all others by kind.

    Args:
        root: Local path or URL.
        ending: Regular expression of how their names end.
        kind: Extension that they should have, for the message.

    Raises:
        CorpusError: There is none.
    """
    folder = require_folder(root, "corpus.root")
    wanted = re.compile(rf".*{ending}", re.IGNORECASE | re.DOTALL)
    entries = folder.entries()
    files = [n for n, entry in entries.items() if entry.kind == FILE and wanted.fullmatch(n)]
    shards = [Shard(folder.uri(name), stem(name), entries[name].etag) for name in files]
    taken = set(files)
    beside = Counter(kind_of(n, entry) for n, entry in entries.items() if n not in taken)
    if not shards and wanted.fullmatch(root):
        shards = [Shard(root, stem(root.rpartition("/")[2]), etag_of(root))]
    if not shards:
        raise CorpusError(f"corpus.root={root} holds no .{kind} files: check the path.")
    return shards, beside


_COLUMNS = {
    field.name: pa.list_(pa.string()) if field.name == "tags" else pa.string()
    for field in fields(SourceRow)
}
_SCHEMA = pa.schema(list(_COLUMNS.items()))
_REPEATED = ("split", "etag", "shard", "problem", "reason")
_ASIDE = b"dcsp.aside"


def _to_table(listed: Listed) -> pa.Table:
    """What a shard holds as a table; what is no UTF-8 in a name or a tag becomes printable."""

    def clean(value: Any) -> Any:
        if isinstance(value, tuple):
            return [printable(text) for text in value]
        return None if value is None else printable(value)

    aside = {"found": listed.found, "skipped": listed.skipped, "others": listed.others}
    columns = {name: [clean(getattr(row, name)) for row in listed.rows] for name in _COLUMNS}
    schema = _SCHEMA.with_metadata({_ASIDE: json.dumps(aside).encode()})
    return pa.table(columns, schema=schema)


def _from_table(table: pa.Table) -> Listed:
    """What a table holds; what is the same for many rows is converted and held once."""
    columns: list[list[Any]] = []
    for name in _COLUMNS:
        column = table[name].combine_chunks()
        if name == "tags":
            held: dict[tuple[str, ...], tuple[str, ...]] = {}
            tags = (tuple(of_row or ()) for of_row in column.to_pylist())
            columns.append([held.setdefault(of_row, of_row) for of_row in tags])
        elif name in _REPEATED:
            encoded: Any = column.dictionary_encode()
            values = encoded.dictionary.to_pylist()
            columns.append([values[index] for index in encoded.indices.to_pylist()])
        else:
            columns.append(column.to_pylist())
    rows = [SourceRow(*values) for values in zip(*columns, strict=True)]
    aside = json.loads((table.schema.metadata or {})[_ASIDE])
    return Listed(rows, aside["found"], aside["skipped"], Counter(aside["others"]))
