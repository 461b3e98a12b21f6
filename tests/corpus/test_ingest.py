"""Whatever happens to a source from night to night, its snapshot is what it holds."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.corpus.unknown_tags import read_unknown
from dcsp.errors import CorpusError
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, LATEST, part_file, rejected_file
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import (
    SETTINGS,
    TABLE,
    Shelf,
    ingest,
    ingest_here,
    listing_of,
    live,
    mine,
    mined,
    picture,
    shelf,
)

ANY = SETTINGS.model_copy(update={"max_removed_share": 1.0, "max_rejected_share": 1.0})


class Photo(NamedTuple):
    """One image of a source, as it is on one day."""

    seed: int
    tag: str
    has_mask: bool
    is_bad: bool
    time: int


PHOTOS = st.builds(
    Photo,
    st.integers(0, 2),
    st.sampled_from(["cat", "dog"]),
    st.booleans(),
    st.integers(0, 9).map(lambda n: n == 0),
    st.integers(0, 1),
)
NAMES = [f"{split}{number}" for split in ("t", "val") for number in range(6)]
DAYS = st.lists(
    st.dictionaries(st.sampled_from(NAMES), PHOTOS, min_size=1), min_size=2, max_size=4
).filter(lambda days: all(any(not photo.is_bad for photo in day.values()) for day in days))


class Photo(NamedTuple):
    """One image of a source, as it is on one day."""

    seed: int
    tag: str
    has_mask: bool
    is_bad: bool
    time: int


def source_of(day: dict[str, Photo]) -> Shelf:
    return Shelf(
        images={n: b"no image" if p.is_bad else picture(p.seed) for n, p in day.items()},
        masks={n: picture(p.seed) for n, p in day.items() if p.has_mask},
        tags={n: (p.tag,) for n, p in day.items()},
        times={n: 10 * p.seed + p.time for n, p in day.items()},
    )


def expected(day: dict[str, Photo]) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            "val" if name.startswith("val") else "train",
            picture(photo.seed),
            [1 + (photo.tag == "dog")],
            picture(photo.seed) if photo.has_mask else None,
        )
        for name, photo in day.items()
        if not photo.is_bad
    ]


@settings(max_examples=15, deadline=None)
@given(days=DAYS, part_rows=st.integers(1, 6))
def test_whatever_happens_to_a_source_its_snapshot_is_what_it_holds(
    days: Sequence[dict[str, Photo]], part_rows: int
) -> None:
    chosen = ANY.model_copy(update={"part_rows": part_rows})
    with tempfile.TemporaryDirectory() as folder:
        store, before = Store(folder), dict[str, Photo]()
        for day in days:
            source = source_of(day)
            snapshot = ingest(store, source, chosen)
            assert sorted(live(store, snapshot)) == sorted(expected(day))
            assert source.reads <= sum(before.get(name) != photo for name, photo in day.items())
            assert snapshot == replace(
                Snapshot.load(store, snapshot.fingerprint),
                added=snapshot.added,
                rejected=sum(photo.is_bad for photo in day.values()),
            )
            rejected = store.read_table(rejected_file(snapshot.fingerprint)).to_pylist()
            lost = [row["image_id"] for row in rejected if row["stage"] != "mask"]
            assert sorted(lost) == sorted(name for name, photo in day.items() if photo.is_bad)
            tags = Counter(
                photo.tag
                for name, photo in day.items()
                if not photo.is_bad and not name.startswith("val")
            )
            assert snapshot.counts == {"cat": tags["cat"], "dog": tags["dog"]}
            mine(store, snapshot)
            for part in snapshot.parts:
                corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name))
                assert store.read_table(part_file(TABLE, part.name)).equals(mined(corpus))
            before = day


def test_a_source_of_which_most_is_gone_is_not_believed(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    left = Shelf({name: source.images[name] for name in ("t1", "val1")})
    with pytest.raises(CorpusError, match=r"11 of the 13 images .* corpus\.max_removed_share=0\.5"):
        ingest(store, left)
    assert ingest(store, source) == first
    assert ingest(store, left, ANY).rows(["train", "val"]) == 2


def test_a_bad_night_stops_early_however_large_the_corpus_is(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(train=40)
    ingest(store, source)
    names = [f"new{number}" for number in range(300)]
    bad = replace(source, images=source.images | dict.fromkeys(names, b"no image"), reads=0)
    with pytest.raises(CorpusError, match=r"200 of 200 images were rejected"):
        ingest(store, bad)
    assert bad.reads < 250


def test_one_bad_image_of_a_few_new_ones_stops_nothing(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(train=40)
    ingest(store, source)
    images = source.images | {"new1": b"no image", "new2": picture(7)}
    assert ingest(store, replace(source, images=images)).rejected == 1


@settings(max_examples=15, deadline=None)
@given(
    nights=st.lists(
        st.tuples(
            st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
            st.frozensets(st.sampled_from(NAMES), max_size=8),
        ),
        min_size=2,
        max_size=5,
    ),
    part_rows=st.integers(1, 6),
)
def test_images_that_could_not_be_read_for_now_are_asked_for_the_next_night_and_only_these(
    nights: Sequence[tuple[list[str], frozenset[str]]], part_rows: int
) -> None:
    chosen = ANY.model_copy(update={"part_rows": part_rows})
    with tempfile.TemporaryDirectory() as folder:
        store, before, waiting = Store(folder), set[str](), set[str]()
        came: dict[str, int] = {}  # what comes back has another time, or its batch is known
        for night, (names, away) in enumerate(nights):
            names = [*names, "t100"]  # which is always there
            came |= dict.fromkeys(set(names) - before, night)
            images = {name: b"no image" if name == "val0" else picture(1) for name in names}
            source = Shelf(images, times=came, away=away)
            listing = listing_of(store, source, chosen)
            known, read = listing.known(), sum(n not in before or n in waiting for n in names)
            assert known is None or read == 0
            done = ingest_here(listing)
            listing.remember(done.snapshot, 1.0)
            assert source.reads <= read
            waiting = (waiting | (set(names) - before)) & away & set(names)
            before = set(names)
            found = {row[0] for row in live(store, done.snapshot)}
            assert found == before - waiting - {"val0"}
            assert (done.deferred, done.snapshot.rejected) == (
                len(waiting),
                len(before) - len(found),
            )


def test_names_that_only_look_alike_when_printed_are_told_apart_every_night(tmp_path: Path) -> None:
    store, images = Store(tmp_path), {"t\udcff": picture(1), "t\\udcff": picture(2)}
    for number in range(3):
        images[f"t{number}"] = picture(number)
        snapshot = ingest(store, Shelf(images), ANY)
        rejected = store.read_table(rejected_file(snapshot.fingerprint))["reason"].to_pylist()
        assert sorted(rejected) == ["duplicate_id", "invalid_id"] and snapshot.rejected == 2


def test_an_ingest_that_was_killed_between_its_last_tables_loses_no_image(tmp_path: Path) -> None:
    """Rejected rows are written first: the catalogue beside them may be of the night before."""
    store, source = Store(tmp_path), shelf(bad=2)
    before = ingest(store, source, ANY)
    file = rejected_file(before.fingerprint)
    store.write_table(file, store.read_table(file).slice(1))
    after = ingest(store, replace(source, images=source.images | {"t99": picture(99)}), ANY)
    assert after.rejected == 2


def test_a_store_of_earlier_versions_asks_for_deferred_images_too(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, replace(source, away=frozenset({"t1"})), ANY)
    listing = listing_of(store, source, ANY)
    store.write_json(listing.file, {"snapshot": first.fingerprint, "seconds": 1.0})
    assert listing.known() is None
    assert ingest(store, source, ANY).rows(["train"]) == 10


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


def test_a_corpus_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no images: check corpus\.root"):
        ingest(Store(tmp_path), Shelf({}))
