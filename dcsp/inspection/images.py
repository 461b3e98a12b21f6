"""Where an image of a run is, by the catalogue of its corpus: no image is read to find one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corpus.rejected import is_of_image
from dcsp.corpus.sources.base import printable
from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run
from dcsp.store.store import Store
from dcsp.tables.erased import load_erased
from dcsp.tables.layout import catalogue_file, rejected_file
from dcsp.tables.snapshot import CorpusPart, Snapshot

_LENGTHS = 2
"""How many letters longer or shorter an id may be to be meant."""
_MOST_COMPARED = 20_000
"""Ids that are looked at for what was meant: half a second."""


class Place(NamedTuple):
    """Where an image is.

    Attributes:
        image_id: Its id, as the corpus has it.
        part: The part of the corpus.
        row: Its position there, and in every table.
    """

    image_id: str
    part: CorpusPart
    row: int


def find_image(store: Store, run: Run, image_id: str) -> Place:
    """Where an image is.

    Raises:
        StoreError: The run has none of that id: the message says whether it was erased or refused,
            or which ids are like it.
    """
    file = catalogue_file(run.record["snapshot"])
    catalogue = store.read_table(file, ["image_id", "part", "row"])
    found = _found(catalogue, image_id)
    if found is None:
        raise _missing(store, run, catalogue["image_id"], image_id)
    part, row = found
    return Place(printable(image_id), Snapshot.load(store, run.record["snapshot"]).parts[part], row)


def _found(catalogue: pa.Table, image_id: str) -> tuple[int, int] | None:
    """Index of the part and row of an image; None where it is not in the corpus."""
    index = pc.index(catalogue["image_id"], printable(image_id)).as_py()
    if index < 0 or catalogue["part"][index].as_py() < 0:
        return None
    return catalogue["part"][index].as_py(), catalogue["row"][index].as_py()


def _missing(
    store: Store, run: Run, ids: pa.ChunkedArray[pa.StringScalar], image_id: str
) -> StoreError:
    """Why there is no such image."""
    if load_erased(store).has(image_id):
        return StoreError(f"The image {image_id!r} was erased from the store {store.url}.")
    rejected = store.read_table(rejected_file(run.record["snapshot"]))
    mine = rejected.filter(pc.equal(rejected["image_id"], pa.scalar(printable(image_id))))
    for row in mine.to_pylist():
        if not is_of_image(row):
            return StoreError(
                f"Ingest refused the image {image_id!r} of the run {run.run_id}: {row['reason']}, "
                f"{row['message']} ({row['uri']})."
            )
    like = " or ".join(map(repr, _like(ids, image_id)))
    meant = f": did you mean {like}?" if like else "."
    return StoreError(f"The run {run.run_id} has no image {image_id!r}{meant}")


def _like(ids: pa.ChunkedArray[pa.StringScalar], image_id: str) -> Sequence[str]:
    """Up to three ids that are like one."""
    lengths = pc.utf8_length(ids).to_numpy()
    near = np.flatnonzero(np.abs(lengths - len(image_id)) <= _LENGTHS)[:_MOST_COMPARED]
    return difflib.get_close_matches(image_id, map(str, ids.take(near).to_pylist()))
