"""Batches become parts once; a second ingest reads records; too many rejections stop it early."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.pack import Packer
from dcsp.corpus.rejected import RejectionCounter
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.unknown_tags import read_unknown
from dcsp.errors import CorpusError
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import BATCHES, LATEST, rejected_file
from dcsp.tables.schemas import CORPUS, REJECTED, TRUTH
from tests.corpus.shelf import SETTINGS, Shelf, ingest, ingest_here, listing_of, picture, shelf

NONE_REJECTED = REJECTED.empty_table()


def test_batches_become_parts_of_one_split(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    snapshot = ingest(store, source)
    assert [(part.split, part.rows) for part in snapshot.parts] == [
        *[("train", 4), ("train", 4), ("train", 2)],
        ("val", 3),
    ]
    assert store.parts("corpus/parts") == {part.name for part in snapshot.parts}
    found: dict[str, bytes] = {}
    for part in snapshot.parts:
        table = store.read_table(f"corpus/parts/{part.name}.parquet")
        assert table.schema.equals(CORPUS)
        found |= dict(zip(table["image_id"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    assert found == source.images
    assert snapshot.rejected == 0


def test_training_images_are_counted_by_class(tmp_path: Path) -> None:
    tags = {"t1": (), "t2": ("cat", "dog"), "val0": ("cow",)}
    settings = SETTINGS.model_copy(update={"classes": ("cat", "dog", "cow")})
    snapshot = ingest(Store(tmp_path), replace(shelf(), tags=tags), settings)
    assert snapshot.counts == {"cat": 9, "dog": 1, "cow": 0}
    assert snapshot.unseen == ("cow",) and not snapshot.is_untagged
    bare = replace(shelf(), tags={f"t{i}": () for i in range(10)})
    snapshot = ingest(Store(tmp_path), bare, settings)
    assert snapshot.unseen == ("cat", "dog", "cow") and snapshot.is_untagged


def test_a_second_ingest_reads_no_image(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    source.reads = 0
    assert ingest(store, source) == first
    assert source.reads == 0
    known = listing_of(store, source).known()
    assert known == (first, 1.0)


def test_a_killed_ingest_reads_what_is_left(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    listing = listing_of(store, source)
    batches = plan_batches(listing.rows, SETTINGS.part_rows)
    listing.packer(Batch(batches[0]))
    assert listing.known() is None
    source.reads = 0
    ingest(store, source)
    assert source.reads == 13 - len(batches[0])


def test_a_removed_part_is_packed_again(tmp_path: Path) -> None:
    """What the messages about damaged parts advise: remove it and submit the job again."""
    store, source = Store(tmp_path), replace(shelf(), masks={"t1": picture(1)})
    snapshot = ingest(store, source)
    removed = next(part for part in snapshot.parts if part.truth)
    for file in (f"corpus/parts/{removed.name}.parquet", str(removed.truth)):
        content = store.read_bytes(file)
        store.remove(file)
        assert ingest(store, source) == snapshot
        assert store.read_bytes(file) == content
    store.remove(f"corpus/parts/{removed.name}.parquet")
    assert listing_of(store, source).known() is None


def test_a_removed_snapshot_is_made_again(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    snapshot = ingest(store, source)
    store.remove(f"corpus/{snapshot.fingerprint}.json")
    assert listing_of(store, source).known() is None
    assert ingest(store, source) == snapshot


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"max_rejected_share": 0.5}, True),
        ({"limit": 100}, True),
        ({"classes": ("dog", "cat")}, False),
        ({"synonyms": {"cat": ("kitty",)}}, False),
        ({"min_tag_support": 9}, True),
        ({"max_pixels": 50}, False),
    ],
    ids=str,
)
def test_settings_that_decide_a_part_make_a_listing_new(
    tmp_path: Path, change: dict[str, Any], same: bool
) -> None:
    store, source = Store(tmp_path), shelf()
    ingest(store, source)
    changed = listing_of(store, source, SETTINGS.model_copy(update=change))
    assert (changed.known() is not None) == same


def test_stores_of_earlier_versions_go_on(tmp_path: Path) -> None:
    """These names were written when the settings were others, and mean the same ones today."""
    source = FolderSource("/photos", ("train", "val"))
    assert Packer(Store(tmp_path), source, SETTINGS).lineage == "e57b0e3c85500532f9ac"
    row = SourceRow("a", "shelf/a", "train", ("cat",), None, "1")
    Packer(Store(tmp_path), Shelf({"a": picture(1)}), SETTINGS)(Batch([row], {"a": 7}))
    assert [file.stem for file in (tmp_path / BATCHES).iterdir()] == ["79e6cde50c828c1ef330"]


def test_masks_lie_apart_and_leave_the_parts_as_they_are(tmp_path: Path) -> None:
    plain = ingest(Store(tmp_path / "plain"), shelf())
    masks = {"t1": picture(1), "t2": b"no mask"}
    store = Store(tmp_path / "masked")
    masked = ingest(store, replace(shelf(), masks=masks))
    other = ingest(Store(tmp_path / "other"), replace(shelf(), masks={"t1": picture(2)}))
    assert [part.name for part in masked.parts] == [part.name for part in plain.parts]
    assert all(part.truth is None for part in plain.parts)
    files = [{part.truth for part in snapshot.parts if part.truth} for snapshot in (masked, other)]
    assert files[0].isdisjoint(files[1])
    (file,) = (
        part.truth
        for part in masked.parts
        if part.truth and "t1" in store.read_table(part.truth, ["image_id"])["image_id"].to_pylist()
    )
    truth = store.read_table(file)
    assert truth.schema.equals(TRUTH)
    row = next(row for row in truth.to_pylist() if row["image_id"] == "t1")
    np.testing.assert_array_equal(decode_labels(row["label"]), decode_labels(masks["t1"]))


def test_rejected_images_are_rows_and_leave_the_rest(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(bad=1)
    listing = listing_of(store, source)
    snapshot = ingest_here(listing).snapshot
    (row,) = store.read_table(rejected_file(snapshot.fingerprint)).to_pylist()
    assert (row["image_id"], row["reason"]) == ("t0", "unreadable")
    assert snapshot.rejected == 1 and sum(part.rows for part in snapshot.parts) == 12


def test_too_many_rejections_name_the_commonest_reasons(tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        ingest(Store(tmp_path), shelf(bad=5))
    text = str(caught.value)
    assert "5 of 13 images were rejected (5 unreadable; first: shelf/t" in text
    assert "corpus.max_rejected_share=0.1: mend the source or raise the limit" in text


def test_dropped_tags_are_told_and_lose_no_image(tmp_path: Path) -> None:
    tags = {f"t{i}": ("cat", "unicorn") for i in range(10)}
    settings = SETTINGS.model_copy(update={"max_rejected_share": 0.0})
    source = replace(shelf(), tags=tags)
    assert ingest(Store(tmp_path / "a"), source, settings).rejected == 0
    source.images["t3"] = b"no image"
    with pytest.raises(CorpusError, match=r"1 of 13 images .*\(1 unreadable; first: shelf/t3: "):
        ingest(Store(tmp_path / "b"), source, settings)


def test_unknown_tags_are_counted_over_all_batches(tmp_path: Path) -> None:
    tags = {f"t{i}": ("cat", "unicorn") for i in range(10)} | {"val0": ("axe",), "t1": ("unicorn",)}
    settings = SETTINGS.model_copy(update={"max_rejected_share": 1.0})
    source = replace(shelf(), tags=tags)
    store = Store(tmp_path)
    for _ in range(2):  # packed, and when nothing is new
        snapshot = ingest(store, source, settings)
        for name in (LATEST, snapshot.fingerprint):
            found = read_unknown(store, name)
            assert found == {"uses": 11, "distinct": 2, "images": {"unicorn": 10, "axe": 1}}


def test_bad_masks_are_told_and_lose_no_image(tmp_path: Path) -> None:
    """Where no mask of a part is good there is no truth table to tell of them."""
    settings = SETTINGS.model_copy(update={"max_rejected_share": 0.0})
    source = replace(shelf(), masks={f"t{i}": b"no mask" for i in range(10)})
    store = Store(tmp_path)
    snapshot = ingest_here(listing_of(store, source, settings)).snapshot
    assert snapshot.rejected == 0 and all(part.truth is None for part in snapshot.parts)
    rejected = store.read_table(rejected_file(snapshot.fingerprint))
    told = {(row["image_id"], row["reason"]) for row in rejected.to_pylist()}
    assert told == {(f"t{i}", "bad_mask") for i in range(10)}


def record(listed: int, lost: int) -> dict[str, Any]:
    row = {"uri": "u", "split": "train", "stage": "decode", "reason": "empty", "message": "m"}
    rejected = [row | {"image_id": str(number)} for number in range(lost)]
    return {"listed": listed, "part": None, "rows": [], "same": [], "rejected": rejected}


def test_a_bad_corpus_stops_before_it_is_read_to_its_end() -> None:
    counter = RejectionCounter(0.1, NONE_REJECTED, NONE_REJECTED, 0)
    counter.add(record(150, 100))  # too few rows to judge by
    with pytest.raises(CorpusError, match="150 of 250 images were rejected"):
        counter.add(record(100, 50))


def test_duplicates_of_the_listing_count_as_rejected() -> None:
    duplicates = pa.Table.from_pylist(record(0, 3)["rejected"], REJECTED)
    with pytest.raises(CorpusError, match="3 of 10 images"):
        counter = RejectionCounter(0.1, duplicates, NONE_REJECTED, 0)
        counter.add(record(7, 0))
        counter.check()


def test_a_corpus_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no images: check corpus\.root"):
        ingest(Store(tmp_path), Shelf({}))


def test_packers_travel_to_workers(tmp_path: Path) -> None:
    settings = CorpusSettings.model_validate(
        {
            "kind": "scenes",
            "classes": ["ball", "crate", "starfish", "mushroom", "fish", "cactus"],
            "scenes": {"train": 2, "val": 1, "height": 48, "width": 48},
        }
    )
    listing = list_corpus(Store(tmp_path), settings, seed=1)
    batch = Batch(listing.rows[:1])
    sent = pickle.loads(pickle.dumps(listing.packer))
    assert sent(batch) == Packer(Store(tmp_path / "other"), sent.source, settings)(batch)
