"""How many rows of each status the parts of a table have, known without reading the parts again.

Who makes a part counts its rows; the counts of all parts so far lie beside them in one small file.
It only saves work: a part that it lacks, or whose size is another now, is counted from its rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from dcsp.errors import StoreError
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.layout import STATUSES_FILE, part_file
from dcsp.tables.schemas import ERROR, OK, SKIPPED, STATUSES


class Counted(NamedTuple):
    """One part: the bytes of its file, and its rows of each status."""

    bytes: int
    ok: int
    skipped: int
    error: int

    @property
    def statuses(self) -> dict[str, int]:
        """Status → rows."""
        return {OK: self.ok, SKIPPED: self.skipped, ERROR: self.error}

    @classmethod
    def of(cls, size: int, statuses: Mapping[str, int]) -> Counted:
        """From rows of each status, of which those that are not named are 0."""
        return cls(size, *(statuses.get(name, 0) for name in STATUSES))


def remembered(store: Store, directory: str) -> dict[str, Counted]:
    """What is remembered of the parts of a table; nothing where the file is not what it should be.

    Raises:
        StoreError: The store cannot be read.
    """
    name = f"{directory}/{STATUSES_FILE}"
    if not store.exists(name):
        return {}
    try:
        tree = json.loads(store.read_bytes(name))
        return {part: Counted(*map(int, numbers)) for part, numbers in tree.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def remember(store: Store, directory: str, counted: Mapping[str, Counted]) -> None:
    """Add to what is remembered of the parts of a table.

    Raises:
        StoreError: The store cannot be read or written.
    """
    known = remembered(store, directory)
    if counted.items() <= known.items():
        return
    _write(store, directory, {**known, **counted})


def forget(store: Store, directory: str, parts: Collection[str]) -> None:
    """Forget what is remembered of parts that go, or become others.

    Raises:
        StoreError: The store cannot be read or written.
    """
    known, gone = remembered(store, directory), set(parts)
    if known.keys() & gone:
        _write(store, directory, {part: c for part, c in known.items() if part not in gone})


def count_parts(
    store: Store, directory: str, sizes: Mapping[str, int], known: Mapping[str, Counted]
) -> dict[str, Counted]:
    """Rows of each status of some parts of a table.

    Args:
        store: The store.
        directory: Of the table.
        sizes: Part → bytes of its file, for the parts to count.
        known: Parts that were just made.

    Returns:
        Part → what it has. Parts that are neither known nor remembered are read, several at once;
        all are remembered.

    Raises:
        StoreError: A part cannot be read.
    """
    found = {part: known[part] for part in sizes if part in known}
    if len(found) < len(sizes):
        earlier = remembered(store, directory)
        same = {p: c for p, c in earlier.items() if sizes.get(p) == c.bytes and p not in found}
        found |= same
        found |= dict(_read(store, directory, {p: sizes[p] for p in sizes if p not in found}))
    remember(store, directory, found)
    return found


def _write(store: Store, directory: str, counted: Mapping[str, Counted]) -> None:
    lines = (f"{json.dumps(part)}: {json.dumps(c)}" for part, c in counted.items())
    text = ",\n".join(lines)
    store.write_bytes(f"{directory}/{STATUSES_FILE}", f"{{{text}}}\n".encode())


def count_statuses(table: pa.Table) -> dict[str, int]:
    """Rows of each status of a table."""
    return dict(Counter(map(str, table["status"].to_pylist())))


def _read(store: Store, directory: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, Counted]]:
    def count(part: str) -> tuple[str, Counted]:
        file = part_file(directory, part)
        statuses = count_statuses(store.read_table(file, ["status"]))
        strange = sorted(set(statuses) - {*STATUSES})
        if strange:
            raise StoreError(
                f"{store.path(file)} has rows of the status {strange[0]!r}: remove it and submit "
                "the job again."
            )
        return part, Counted.of(sizes[part], statuses)

    with read_ahead(count, sizes) as counted:
        yield from counted
