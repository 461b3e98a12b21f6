"""What ingest refused, and looking at it once more after the cause was mended.

A file that was mended has another etag and is read again by itself. Causes outside of the files,
such as permissions or a share that was not mounted, leave the listing as it was: then the records
of the batches concerned are forgotten, and the next ingest reads their images anew.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corpus.unknown_tags import read_unknown
from dcsp.inspection.inventory import find_run
from dcsp.store.store import Store
from dcsp.tables.layout import BATCHES, LATEST, LINEAGES, LISTINGS, catalogue_file, rejected_file
from dcsp.tables.schemas import REJECTED
from dcsp.text import shown, spreadsheet_cell

Row = Mapping[str, Any]
_LONGEST = 200
"""Characters of an address in a list."""


@dataclass
class Reason:
    """Rows that were rejected for one reason at one stage.

    Attributes:
        stage: ``list``, ``read`` or ``decode``; of ``tag`` and ``mask`` the images are kept.
        reason: As the rejected table has it.
        rows: How many.
        example: Where one of them is, and what was wrong with it.
    """

    stage: str
    reason: str
    rows: int
    example: str


def read_rejected(store: Store, run_id: str | None = None) -> list[Row]:
    """The rejected rows of a run's corpus; without a run, of the latest ingest, even if it failed.

    Raises:
        StoreError: There is no such run, or no ingest yet.
    """
    return [*store.read_table(rejected_file(_snapshot(store, run_id))).to_pylist()]


def read_unknown_tags(store: Store, run_id: str | None = None) -> dict[str, int]:
    """The commonest tags without a class and the images with each, of the same corpus.

    Raises:
        StoreError: There is no such run, or no ingest yet.
    """
    return dict(read_unknown(store, _snapshot(store, run_id)).get("images", {}))


def by_reason(rows: Iterable[Row]) -> list[Reason]:
    """Rows counted by stage and reason, most first."""
    found: dict[tuple[str, str], Reason] = {}
    for row in rows:
        example = shown(f"{shown(row['uri'], _LONGEST)}: {row['message']}")
        key = (row["stage"], row["reason"])
        found.setdefault(key, Reason(*key, 0, example)).rows += 1
    return sorted(found.values(), key=lambda reason: (-reason.rows, reason.stage, reason.reason))


def as_csv(rows: Iterable[Row]) -> str:
    """Every column of the rejected table, as a spreadsheet may open it."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, REJECTED.names)
    writer.writeheader()
    writer.writerows({name: spreadsheet_cell(row[name]) for name in REJECTED.names} for row in rows)
    return sink.getvalue()


def forget(store: Store) -> int:
    """Forget the batches with images that could not be read; the next ingest reads them anew.

    What was decoded and refused would be refused again.

    Returns:
        How many images could not be read.
    """
    lost = {
        name: sum(row["stage"] == "read" for row in record["rejected"])
        for name, record in _records(store)
    }
    if any(lost.values()):
        store.remove(LISTINGS)  # first: a listing that is known is not packed
        for name in store.list(LINEAGES):
            _forget_unread(store, store.read_json(f"{LINEAGES}/{name}")["snapshot"])
    for name, count in lost.items():
        if count:
            store.remove(f"{BATCHES}/{name}")
    return sum(lost.values())


def _snapshot(store: Store, run_id: str | None) -> str:
    if run_id is None and store.exists(rejected_file(LATEST)):
        return LATEST
    return str(find_run(store, run_id).record["snapshot"])


def _forget_unread(store: Store, fingerprint: str) -> None:
    """Leave images that could not be read out of a catalogue: they are listed as new ones then."""
    file = catalogue_file(fingerprint)
    if not store.exists(file):
        return
    rejected = store.read_table(rejected_file(fingerprint), ["image_id", "stage"])
    unread = rejected.filter(pc.equal(rejected["stage"], pa.scalar("read")))
    catalogue = store.read_table(file)
    is_unread = pc.is_in(catalogue["image_id"], value_set=unread["image_id"])
    store.write_table(file, catalogue.filter(pc.invert(is_unread)))


def _records(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in store.list(BATCHES):
        if name.endswith(".json"):
            yield name, store.read_json(f"{BATCHES}/{name}")
