"""What was erased: no ingest takes it again, and the rows that it had are blank.

An erased row stays in its place in every part, so that all parts keep their names and their
number of rows; its id is empty, which no image's is, and it holds nothing of the image. The list of
what was erased holds digests alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.store.store import Store
from dcsp.tables.layout import ERASED_FILE
from dcsp.tables.schemas import SKIPPED

ERASED = "erased"
"""Reason of a rejected row, and what an erased row says in ``error``."""
ERASED_ID = ""
"""Id of an erased row."""
_KEPT = ("height", "width", "split")
_BLANK = {
    "image_id": ERASED_ID,
    "uri": "",
    "sha256": hashlib.sha256(b"").hexdigest(),
    "bytes": b"",
    "status": SKIPPED,
    "error": ERASED,
}


def digest_of(image_id: str) -> str:
    """What the list has of an id."""
    return hashlib.sha256(image_id.encode(errors="backslashreplace")).hexdigest()


@dataclass(frozen=True)
class Erased:
    """What was erased from a store.

    Attributes:
        ids: Digests of image ids (:func:`digest_of`).
        contents: sha256 of image files.
        is_unfinished: Whether something of it may still be in the store.
    """

    ids: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    is_unfinished: bool = False

    def has(self, image_id: str) -> bool:
        """Whether an image of this id was erased."""
        return digest_of(image_id) in self.ids

    def rows(self, ids: Iterable[str]) -> NDArray[np.bool_]:
        """For each id whether it was erased."""
        return np.array([self.has(image_id) for image_id in ids], bool)

    def with_more(self, ids: Iterable[str], contents: Iterable[str]) -> Erased:
        """The same and more ids and contents, of which something may still be there."""
        digests = map(digest_of, ids)
        return Erased(self.ids.union(digests), self.contents.union(contents), is_unfinished=True)

    def save(self, store: Store) -> None:
        """Write the list."""
        content = {
            "ids": sorted(self.ids),
            "contents": sorted(self.contents),
            "is_unfinished": self.is_unfinished,
        }
        store.write_json(ERASED_FILE, content)

    def finish(self, store: Store) -> None:
        """Write the list: nothing of it is in the store any more."""
        replace(self, is_unfinished=False).save(store)


def load_erased(store: Store) -> Erased:
    """What was erased from a store; nothing where there is no list.

    Raises:
        StoreError: The list cannot be read.
    """
    if not store.exists(ERASED_FILE):
        return Erased()
    try:
        tree = store.read_json(ERASED_FILE)
    except StoreError as error:
        raise StoreError(
            f"What was erased from the store {store.url} cannot be read, without which the next "
            f"ingest would take it again: bring {ERASED_FILE} back, or remove it and erase the "
            f"same images again ({error})"
        ) from error
    try:
        return Erased(frozenset(tree["ids"]), frozenset(tree["contents"]), tree["is_unfinished"])
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{store.path(ERASED_FILE)} is no list of erased images that this version of dcsp "
            f"reads ({error}): use the version that wrote it."
        ) from error


def is_blank(table: pa.Table) -> NDArray[np.bool_]:
    """For each row of a part of any table whether it was erased."""
    is_erased = pc.equal(table["image_id"], pa.scalar(ERASED_ID))
    return is_erased.to_numpy().astype(bool)


def blanked(table: pa.Table, rows: Collection[int]) -> pa.Table:
    """A part of any table whose given rows hold nothing of their images.

    Size of the image and split stay; bytes are empty, and their digest is that of nothing.
    """
    pieces, start = [], 0
    for row in sorted(rows):
        kept = table.select([name for name in _KEPT if name in table.column_names])
        values = {**_BLANK, **kept.slice(row, 1).to_pylist()[0]}
        told = {name: values.get(name) for name in table.column_names}
        pieces += [table.slice(start, row - start), pa.Table.from_pylist([told], table.schema)]
        start = row + 1
    return pa.concat_tables([*pieces, table.slice(start)])
