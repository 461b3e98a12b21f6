"""Small columns of a table, part after part: a driver may look at them however long it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from dcsp.stages.parts import live_rows
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.layout import part_file
from dcsp.tables.snapshot import Part


def read_columns(
    store: Store, directory: str, parts: Sequence[Part], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """The live rows of each part, in order; several parts are read at once, few are held.

    Args:
        store: The store.
        directory: Of the table.
        parts: The parts to read.
        columns: Those to read.

    Raises:
        StoreError: A part cannot be read.
    """

    def read(part: Part) -> pa.Table:
        return live_rows(store.read_table(part_file(directory, part.name), columns), part.dead)

    with read_ahead(read, parts) as tables:
        yield from tables
