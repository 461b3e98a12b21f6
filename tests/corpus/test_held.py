"""Other settings of a corpus: images that the store holds are not asked of the source again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.ingest import Ingested, ingest
from dcsp.corpus.sources.base import Listed
from dcsp.errors import CorpusError, ImageError
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, LINEAGES, part_file, rejected_file
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import SETTINGS, TABLE, Shelf, grown, listing_of, live, one_by_one, picture
from tests.corpus.shelf import ingest as ingest_before

LENIENT = SETTINGS.model_copy(update={"max_rejected_share": 0.9})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def zoo() -> Shelf:
    """Twelve images: cats, dogs, puppies, and horses that are no class; some with masks."""
    tags = ["cat", "dog", "puppy", "horse", "cat,horse"]
    names = [f"t{i}" for i in range(9)] + [f"val{i}" for i in range(3)]
    return Shelf(
        images={name: picture(i) for i, name in enumerate(names)},
        masks={"t0": picture(0), "val1": picture(10)},
        tags={name: tuple(tags[i % 5].split(",")) for i, name in enumerate(names)},
    )


def take(
    store: Store, source: Shelf, settings: CorpusSettings, tables: tuple[str, ...] = (TABLE,)
) -> tuple[Ingested, int]:
    """What an ingest did, and how many images it asked of the source."""
    source.reads = 0
    listing = listing_of(store, source, settings)
    listing = replace(listing, packer=replace(listing.packer, tables=tables))
    done = ingest(listing, one_by_one, lambda _: None)
    listing.remember(done.snapshot, 1.0)
    return done, source.reads


def mark(store: Store, snapshot: Snapshot) -> dict[str, str]:
    """Make a table that depends on images alone; id → what it has of an image."""
    told = {}
    for part in snapshot.parts:
        corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name), ["image_id", "sha256"])
        ids, found = corpus["image_id"], corpus["sha256"]
        store.write_table(part_file(TABLE, part.name), pa.table({"image_id": ids, "found": found}))
        told |= dict(zip(ids.to_pylist(), found.to_pylist(), strict=True))
    return told


OTHERS: dict[str, dict[str, Any]] = {
    "a class more": {"classes": ("cat", "dog", "horse")},
    "a class before the others": {"classes": ("horse", "cat", "dog")},
    "a class less": {"classes": ("cat",)},
    "a synonym": {"synonyms": {"dog": ("puppy",)}},
    "a distractor": {"distractors": ("horse",)},
    "masks with other ids": {"mask_classes": ("dog", "cat")},
    "a larger limit of pixels": {"max_pixels": 10**9},
    "smaller parts": {"part_rows": 2},
    "larger parts": {"part_rows": 8},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_setting_asks_only_for_images_that_were_refused_before(
    store: Store, tmp_path: Path, other: dict[str, Any]
) -> None:
    """The corpus is what it would be in an empty store, and listed = ok + rejected."""
    before, settings = ingest_before(store, zoo(), LENIENT), LENIENT.model_copy(update=other)
    source = zoo()
    done, reads = take(store, source, settings)
    fresh = ingest_before(Store(tmp_path / "empty"), zoo(), settings)
    assert sorted(live(store, done.snapshot)) == sorted(live(Store(tmp_path / "empty"), fresh))
    assert done.snapshot.counts == fresh.counts and done.snapshot.rejected == fresh.rejected
    held_before = {name for name, *_ in live(store, before)}
    now = {name for name, *_ in live(store, done.snapshot)}
    assert reads == len(now - held_before)
    assert done.held == len(now & held_before)
    assert done.snapshot.rows(["train", "val"]) + done.snapshot.rejected == len(source.images)
    rejected = store.read_table(rejected_file(done.snapshot.fingerprint))
    empty = Store(tmp_path / "empty").read_table(rejected_file(fresh.fingerprint))
    assert rejected.sort_by("image_id").equals(empty.sort_by("image_id"))


@pytest.mark.parametrize("name", ["a larger limit of pixels", "larger parts"])
def test_a_setting_that_changes_no_row_keeps_the_corpus_of_many_nights(
    store: Store, name: str
) -> None:
    """The same parts in the same order: whatever was computed of them is used again."""
    source = zoo()
    for night in ("n1", "n2"):
        before = ingest_before(store, source, LENIENT)
        source = grown(source, night)
    done, reads = take(store, replace(source), LENIENT.model_copy(update=OTHERS[name]))
    assert [part.name for part in done.snapshot.parts[: len(before.parts)]] == [
        part.name for part in before.parts
    ]
    assert reads == 1


def test_a_synonym_that_nobody_uses_is_the_same_corpus(store: Store) -> None:
    before = ingest_before(store, zoo(), LENIENT)
    settings = LENIENT.model_copy(update={"synonyms": {"dog": ("hound",)}})
    done, _ = take(store, zoo(), settings)
    assert done.snapshot.fingerprint == before.fingerprint


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_rows_that_depend_on_images_alone_move_with_their_images(
    store: Store, other: dict[str, Any]
) -> None:
    before = ingest_before(store, zoo(), LENIENT)
    told, names = mark(store, before), {part.name for part in before.parts}
    done, _ = take(store, zoo(), LENIENT.model_copy(update=other))
    has, moved = store.parts(TABLE), 0
    for part in done.snapshot.parts:
        ids = store.read_table(part_file(CORPUS_DIRECTORY, part.name))["image_id"].to_pylist()
        assert (part.name in has) == (set(ids) <= told.keys())
        if part.name in has:
            rows = store.read_table(part_file(TABLE, part.name)).to_pylist()
            assert rows == [{"image_id": name, "found": told[name]} for name in ids]
            moved += part.name not in names
    assert moved or {part.name for part in done.snapshot.parts} & names


def test_other_tables_do_not_move(store: Store) -> None:
    mark(store, ingest_before(store, zoo(), LENIENT))
    before = store.parts(TABLE)
    take(store, zoo(), LENIENT.model_copy(update={"classes": ("horse", "cat", "dog")}), tables=())
    assert store.parts(TABLE) == before


@pytest.mark.parametrize("change", ["bytes", "tags", "mask"])
def test_an_image_that_is_listed_otherwise_is_read(store: Store, change: str) -> None:
    ingest_before(store, zoo(), LENIENT)
    source = zoo()
    if change == "bytes":
        source.images["t0"], source.times["t0"] = picture(77), 1
    elif change == "tags":
        source.tags["t0"] = ("dog",)
    else:
        source.masks["t0"], source.times["t0"] = picture(5), 1
    settings = LENIENT.model_copy(update={"synonyms": {"dog": ("hound",)}})
    done, _ = take(store, source, settings)
    (row,) = [row for row in live(store, done.snapshot) if row[0] == "t0"]
    assert row[2] == source.images["t0"] and row[4] == source.masks["t0"]
    assert row[3] == [2 if change == "tags" else 1]
    assert done.held == sum(part.live for part in done.snapshot.parts) - 1


def test_a_lower_limit_of_pixels_rejects_what_the_store_holds(store: Store) -> None:
    ingest_before(store, zoo(), LENIENT)
    source = zoo()
    small = LENIENT.model_copy(update={"max_pixels": 19, "max_rejected_share": 1.0})
    with pytest.raises(CorpusError, match="The corpus has no images"):
        take(store, source, small)


class Unstamped(Shelf):
    """Images that a source gives no etag, as those of URLs."""

    def list_rows(self) -> Listed:
        return Listed.of([replace(row, etag="") for row in super().list_rows().rows])


class OtherRules(Unstamped):
    def __repr__(self) -> str:
        return "OtherRules()"


@pytest.mark.parametrize(("kind", "reads"), [(Unstamped, False), (OtherRules, True)])
def test_images_without_an_etag_are_held_only_while_the_source_has_the_same_settings(
    store: Store, kind: Callable[..., Shelf], reads: bool
) -> None:
    """The settings of a source say what may be fetched."""
    told = {name: value for name, value in vars(zoo()).items() if name != "reads"}
    ingest_before(store, Unstamped(**told), LENIENT)
    settings = LENIENT.model_copy(update={"part_rows": 2})
    done, asked = take(store, kind(**told), settings)
    assert bool(done.held) != reads
    lost = done.snapshot.rejected
    assert asked == (len(told["images"]) - lost if reads else 0)


def test_parts_that_were_removed_are_read_again(store: Store) -> None:
    before = ingest_before(store, zoo(), LENIENT)
    store.remove(part_file(CORPUS_DIRECTORY, before.parts[0].name))
    done, reads = take(store, zoo(), LENIENT.model_copy(update={"part_rows": 3}))
    assert reads == before.parts[0].rows
    assert len(live(store, done.snapshot)) == len(live_ids(zoo()))


def live_ids(source: Shelf) -> list[str]:
    return [name for name, tags in source.tags.items() if {"cat", "dog"} & set(tags)]


def test_the_corpus_with_most_of_the_images_gives_them(store: Store) -> None:
    """A trial of a few images before does not cut the parts of the whole corpus."""
    ingest_before(store, zoo(), LENIENT.model_copy(update={"limit": 2, "part_rows": 3}))
    whole = ingest_before(store, zoo(), LENIENT)
    done, _ = take(store, zoo(), LENIENT.model_copy(update={"max_pixels": 10**9}))
    assert done.snapshot.fingerprint == whole.fingerprint


def test_stores_of_earlier_versions_are_held_as_well(store: Store) -> None:
    ingest_before(store, zoo(), LENIENT)
    (file,) = store.list(LINEAGES)
    told = store.read_json(f"{LINEAGES}/{file}")
    store.write_json(f"{LINEAGES}/{file}", {"snapshot": told["snapshot"]})
    _, reads = take(store, zoo(), LENIENT.model_copy(update={"part_rows": 2}))
    assert reads == 0


def test_what_another_version_of_packing_accepted_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_before(store, zoo(), LENIENT)
    monkeypatch.setattr("dcsp.corpus.pack.PACK_VERSION", 5)
    done, reads = take(store, zoo(), LENIENT)
    assert reads == done.snapshot.rows(["train", "val"]) and not done.held


def test_a_killed_ingest_goes_on_without_the_source(store: Store) -> None:
    ingest_before(store, zoo(), LENIENT)
    source, settings = zoo(), LENIENT.model_copy(update={"classes": ("horse", "cat", "dog")})
    listing = listing_of(store, source, settings)

    def killed(function: Callable[[Any], Any], items: Any, each: Callable[[Any], Any]) -> list[Any]:
        one_by_one(function, items[:2])
        raise ImageError("killed", "")

    with pytest.raises(ImageError):
        ingest(listing, killed, lambda _: None)
    done, reads = take(store, source, settings)
    assert reads == done.new - done.held
