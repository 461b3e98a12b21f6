"""An ingest where files beside the snapshots were removed: parts stay, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dcsp.corpus.recovery import catalogue_of_parts
from dcsp.store.store import Store
from dcsp.tables.layout import LINEAGES, LISTINGS, catalogue_file, rejected_file
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import SETTINGS, Shelf, grown, ingest, picture, shelf

LENIENT = SETTINGS.model_copy(update={"max_rejected_share": 0.5})


def three_nights(store: Store) -> tuple[Shelf, Snapshot]:
    """A corpus with masks, rejected images, dead rows and parts of several nights."""
    source = replace(shelf(bad=1), masks={"t2": picture(2), "val1": picture(3)})
    ingest(store, source, LENIENT)
    source = grown(source, "n1", "n2")
    ingest(store, source, LENIENT)
    source = grown(source, "n3")
    del source.images["t5"]
    return source, ingest(store, source, LENIENT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.parametrize("file", [catalogue_file, rejected_file])
def test_a_removed_table_is_made_again_and_every_part_stays(store: Store, file: object) -> None:
    source, snapshot = three_nights(store)
    assert callable(file)
    name = file(snapshot.fingerprint)
    before = store.read_table(name)
    store.remove(name)
    source.reads = 0
    assert ingest(store, source, LENIENT) == snapshot
    assert source.reads == len(source.images)
    key = before.column_names[0]
    assert store.read_table(name).sort_by(key).equals(before.sort_by(key))


def test_without_the_name_of_the_last_snapshot_the_latest_is_gone_on_from(store: Store) -> None:
    source, snapshot = three_nights(store)
    store.remove(LINEAGES)
    store.remove(LISTINGS)
    source.reads = 0
    assert ingest(store, source, LENIENT) == snapshot
    assert source.reads == 0
    assert ingest(store, grown(source, "n4"), LENIENT).parts[: len(snapshot.parts)]


def test_a_catalogue_of_parts_has_the_live_rows_where_they_are(store: Store) -> None:
    _, snapshot = three_nights(store)
    made = catalogue_of_parts(store, snapshot, missing=())
    known = store.read_table(catalogue_file(snapshot.fingerprint))
    columns = ["image_id", "content", "tags", "part", "row"]
    listed = [row for row in known.select(columns).to_pylist() if row["part"] >= 0]
    assert sorted(made.select(columns).to_pylist(), key=str) == sorted(listed, key=str)
    assert catalogue_of_parts(store, snapshot, missing=[0])["part"].to_pylist().count(0) == 0
