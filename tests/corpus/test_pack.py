"""Batches become parts, once."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dcsp.config import CorpusSettings, HttpSettings
from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.pack import Packer, part_name
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.sources.folder import FolderSource
from dcsp.labels import TagMapper
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import BATCHES
from dcsp.tables.schemas import CORPUS, TRUTH
from tests.corpus.shelf import SETTINGS, Shelf, ingest, listing_of, picture, shelf


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


def test_a_killed_ingest_reads_what_is_left(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    listing = listing_of(store, source)
    batches = plan_batches(listing.rows, SETTINGS.part_rows)
    listing.packer(Batch(batches[0]))
    assert listing.known() is None
    source.reads = 0
    ingest(store, source)
    assert source.reads == 13 - len(batches[0])


def test_patience_with_servers_is_no_other_corpus(tmp_path: Path) -> None:
    def lineage(**http: Any) -> str:
        source = FolderSource("/photos", ("train", "val"), http=HttpSettings(**http))
        return Packer(Store(tmp_path), source, SETTINGS).lineage

    assert lineage(timeout_seconds=31, attempts=1) == lineage()
    assert len({lineage(), lineage(hosts=["a.org"]), lineage(max_bytes=9)}) == 3


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


def test_a_part_is_named_by_what_it_holds() -> None:
    source, mapper = Shelf({"a": picture(1), "b": picture(1)}), TagMapper(("cat", "dog"))

    def name(*rows: tuple[str, str], split: str = "train", place: str = "shelf") -> str:
        listed = [SourceRow(i, f"{place}/{i}", split, (tag,), None, "") for i, tag in rows]
        return part_name(read_rows(source, listed, mapper, SETTINGS)[0])

    first = name(("a", "cat"), ("b", "dog"))
    others = [
        name(("b", "dog"), ("a", "cat")),
        name(("a", "cat"), ("b", "cat")),
        name(("a", "cat"), ("b", "dog"), split="val"),
        name(("a", "cat")),
    ]
    assert len({first, *others}) == 5
    assert name(("a", "Cats"), ("b", "dog"), place="elsewhere") == first
