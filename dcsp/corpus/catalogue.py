"""Where each listed image of a snapshot is, so that the next listing is compared and not read.

A catalogue has a row for every image that the source listed when the snapshot was made: digests of
what was listed and of what was read, its tags, and the part and row where it is. An image whose
listing did not change is not looked at again. One whose listing did is read, and stays where it is
when its content, tags, split and mask turn out to be what they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.corpus.sources.base import SourceRow, printable
from dcsp.store.store import Store

_FIELDS: dict[str, pa.DataType] = {
    "image_id": pa.string(),
    "listed": pa.uint64(),
    "content": pa.uint64(),
    "tags": pa.list_(pa.uint8()),
    "part": pa.int32(),
    "row": pa.int32(),
    "mask": pa.list_(pa.uint8()),
}
CATALOGUE = pa.schema(_FIELDS)
"""``listed`` and ``content`` are digests, ``tags`` class ids from 1; ``part`` is an index into the
parts of the snapshot and ``row`` a position there, both −1 for an image that was rejected; ``mask``
the class ids that its mask shows, null where it has none that can be used."""
CATALOGUE_COLUMNS = tuple(name for name in CATALOGUE.names if name != "mask")
"""Those that catalogues of earlier versions have as well."""


def read_catalogue(store: Store, file: str) -> pa.Table:
    """A catalogue of this version, or of one before, of whose masks nothing is known.

    Raises:
        StoreError: It is not there or damaged.
    """
    table = store.read_table(file)
    if "mask" not in table.column_names:
        field = CATALOGUE.field("mask")
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


@dataclass(frozen=True)
class Changes:
    """What a listing says that differs from a catalogue.

    Attributes:
        candidates: Rows to read: new ones and those whose listing changed, in order.
        known: Id → content digest of candidates that are in the corpus already.
        unchanged: For each row of the catalogue whether its image is listed as it was.
    """

    candidates: list[SourceRow]
    known: dict[str, int]
    unchanged: NDArray[np.bool_]


def listed_digest(row: SourceRow) -> int:
    """Digest of all that a listing says of an image, 64 bits."""
    return _digest(repr(row))


def content_digests(corpus: pa.Table, truth: pa.Table) -> list[int]:
    """Digests of all that tables and evaluations depend on, row by row, 64 bits.

    Args:
        corpus: Rows of the corpus table.
        truth: The same rows of the truth table.
    """
    images = corpus.select(["sha256", "tags", "split"]).to_pylist()
    masks = truth.select(["label", "status"]).to_pylist()
    return [
        _digest(repr((*image.values(), *mask.values())))
        for image, mask in zip(images, masks, strict=True)
    ]


def compare(catalogue: pa.Table, rows: Sequence[SourceRow]) -> Changes:
    """What of a listing has to be read.

    Args:
        catalogue: Of the snapshot before; empty where there is none.
        rows: What the source lists now, ids unique.
    """
    ids = pa.array([printable(row.image_id) for row in rows], pa.string())
    listed = np.fromiter((listed_digest(row) for row in rows), np.uint64, len(rows))
    places = pc.index_in(ids, value_set=catalogue["image_id"]).fill_null(-1).to_numpy()
    before = catalogue["listed"].to_numpy()
    is_same = np.zeros(len(rows), bool)
    is_known = places >= 0
    is_same[is_known] = before[places[is_known]] == listed[is_known]
    unchanged = np.zeros(catalogue.num_rows, bool)
    unchanged[places[is_same]] = True
    changed = [int(index) for index in np.flatnonzero(~is_same)]
    contents = catalogue["content"].to_numpy()
    is_stored = catalogue["part"].to_numpy() >= 0
    known = {
        rows[index].image_id: int(contents[places[index]])
        for index in changed
        if is_known[index] and is_stored[places[index]]
    }
    return Changes([rows[index] for index in changed], known, unchanged)


def count_tags(catalogue: pa.Table, classes: Sequence[str]) -> dict[str, int]:
    """Images of each class, by name, in id order."""
    tags = pc.list_flatten(catalogue["tags"]).to_numpy()
    counts = np.bincount(tags, minlength=len(classes) + 1)
    return {name: int(count) for name, count in zip(classes, counts[1:], strict=True)}


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "little")
