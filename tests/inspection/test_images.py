"""Where an image is, and what is said of one that is not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dcsp.errors import StoreError
from dcsp.inspection.images import find_image
from dcsp.inspection.inventory import find_run
from dcsp.store.store import Store
from dcsp.tables.erased import Erased
from dcsp.tables.layout import CORPUS_DIRECTORY, catalogue_file, rejected_file
from dcsp.tables.schemas import REJECTED
from tests.store_fixture import IDS, PARTS, build_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(tmp_path / "store")


def test_every_image_is_found_without_reading_one(store: Store) -> None:
    store.remove(CORPUS_DIRECTORY)
    run = find_run(store)
    for split, ids in IDS.items():
        for row, image_id in enumerate(ids):
            place = find_image(store, run, image_id)
            assert (place.part.name, place.part.split, place.row) == (PARTS[split], split, row)


def reject(store: Store, image_id: str, stage: str) -> None:
    """Say that ingest refused an image, or something of it."""
    snapshot = find_run(store).record["snapshot"]
    row = {
        "image_id": image_id,
        "uri": "a/b.jpg",
        "split": "train",
        "stage": stage,
        "reason": "truncated",
        "message": "it ends in the middle",
    }
    store.write_table(rejected_file(snapshot), pa.Table.from_pylist([row], REJECTED))
    catalogue = store.read_table(catalogue_file(snapshot))
    more = {"image_id": "cut off", "listed": 1, "content": 1, "tags": [], "part": -1, "row": -1}
    rows = [*catalogue.to_pylist(), more]
    store.write_table(catalogue_file(snapshot), pa.Table.from_pylist(rows, catalogue.schema))


def test_an_image_that_was_refused_is_told_with_the_reason(store: Store) -> None:
    reject(store, "cut off", "decode")
    with pytest.raises(
        StoreError, match=r"refused the image 'cut off' .*: truncated, it ends .*jpg"
    ):
        find_image(store, find_run(store), "cut off")


def test_a_bad_mask_of_an_image_that_is_kept_refuses_nothing(store: Store) -> None:
    reject(store, "cut of", "mask")
    with pytest.raises(StoreError, match=r"has no image 'cut of': did you mean 'cut off'\?"):
        find_image(store, find_run(store), "cut of")


def test_an_image_that_was_erased_is_told(store: Store) -> None:
    Erased().with_more(["gone"], ()).save(store)
    with pytest.raises(StoreError, match="The image 'gone' was erased from the store"):
        find_image(store, find_run(store), "gone")


def test_ids_that_are_alike_are_offered(store: Store) -> None:
    with pytest.raises(StoreError, match=r"has no image 'sub/tow': did you mean 'sub/two'\?"):
        find_image(store, find_run(store), "sub/tow")
    with pytest.raises(StoreError, match=r"has no image 'q'\.$"):
        find_image(store, find_run(store), "q")
