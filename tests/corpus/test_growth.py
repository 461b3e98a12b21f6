"""A corpus that changes: what is new is read, what is gone is dead, and everything else stays."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.errors import CorpusError
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, STAGE_FILE, part_file, rejected_file
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import SETTINGS, Shelf, ingest, ingest_here, listing_of, picture, shelf

ANY = SETTINGS.model_copy(update={"max_removed_share": 1.0, "max_rejected_share": 1.0})
TABLE = "saliency/0123456789abcdef0123"


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


def source_of(day: dict[str, Photo]) -> Shelf:
    return Shelf(
        images={n: b"no image" if p.is_bad else picture(p.seed) for n, p in day.items()},
        masks={n: picture(p.seed) for n, p in day.items() if p.has_mask},
        tags={n: (p.tag,) for n, p in day.items()},
        times={n: 10 * p.seed + p.time for n, p in day.items()},
    )


def live(store: Store, snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """Id, split, content, tags and mask of every image of a snapshot."""
    found = []
    for part in snapshot.parts:
        corpus = live_rows(store.read_table(part_file(CORPUS_DIRECTORY, part.name)), part.dead)
        masks: list[Any] = [None] * corpus.num_rows
        if part.truth:
            truth = live_rows(store.read_table(part.truth), part.dead)
            assert truth["image_id"].equals(corpus["image_id"])
            masks = truth["label"].to_pylist()
        for row, mask in zip(corpus.to_pylist(), masks, strict=True):
            assert row["split"] == part.split
            found.append((row["image_id"], row["split"], row["bytes"], row["tags"], mask))
    return found


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


def mine(store: Store, snapshot: Snapshot) -> int:
    """Make what is missing of a table that depends on the content; how many rows that is."""
    store.write_json(f"{TABLE}/{STAGE_FILE}", {"stage": "saliency"})
    done, made = store.parts(TABLE), 0
    for part in snapshot.parts:
        if part.name not in done:
            corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name))
            store.write_table(part_file(TABLE, part.name), mined(corpus))
            made += part.rows
    return made


def mined(corpus: pa.Table) -> pa.Table:
    columns = ("image_id", "sha256", "tags")
    rows = zip(*(corpus[name].to_pylist() for name in columns), strict=True)
    digests = [hashlib.sha256(repr(row).encode()).hexdigest() for row in rows]
    return pa.table({"image_id": corpus["image_id"], "found": pa.array(digests)})


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


def grown(source: Shelf, *names: str) -> Shelf:
    images = source.images | {name: picture(100 + i) for i, name in enumerate(names)}
    return replace(source, images=images, reads=0)


def test_old_parts_keep_their_place_and_new_images_make_one(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    done = ingest_here(listing_of(store, grown(source, "new1", "new2")))
    assert done.snapshot.parts[: len(first.parts)] == first.parts
    (new,) = done.snapshot.parts[len(first.parts) :]
    assert (new.rows, new.split, done.new, done.gone) == (2, "train", 2, 0)
    assert (first.added, done.snapshot.added) == (10, 12)
    assert first.lineage == done.snapshot.lineage


def test_an_image_that_is_gone_or_replaced_leaves_a_dead_row(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    images = {name: data for name, data in source.images.items() if name != "t3"}
    changed = replace(source, images=images | {"t5": picture(99)}, times={"t5": 2}, reads=0)
    done = ingest_here(listing_of(store, changed))
    assert changed.reads == 1 and (done.new, done.gone) == (1, 2)
    assert [part.name for part in done.snapshot.parts[:-1]] == [part.name for part in first.parts]
    assert sum(len(part.dead) for part in done.snapshot.parts) == 2
    assert done.snapshot.rows(["train"]) == 9
    assert first.learned_from(["train"]) != done.snapshot.learned_from(["train"])


def test_a_file_that_was_only_touched_stays_where_it_is(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    touched = replace(source, times=dict.fromkeys(source.images, 7), reads=0)
    done = ingest_here(listing_of(store, touched))
    assert touched.reads == 13 and (done.new, done.gone) == (0, 0)
    assert done.snapshot == first


def test_small_parts_are_joined_with_their_tables(tmp_path: Path) -> None:
    """Four nights of one image each: no row of the first ones is computed a second time."""
    store, source = Store(tmp_path), shelf(train=8, val=4)
    sizes, computed = [], []
    for night in range(5):
        snapshot = ingest(store, source)
        computed.append(mine(store, snapshot))
        sizes.append([part.rows for part in snapshot.parts if part.split == "train"])
        source = grown(source, *[name for name in source.images if name.startswith("new")])
        source.images[f"new{night}"] = picture(200 + night)
    assert sizes == [[4, 4], [4, 4, 1], [4, 4, 1, 1], [4, 4, 1, 1, 1], [4, 4, 3, 1]]
    assert computed == [12, 1, 1, 1, 1]
    assert sorted(live(store, snapshot))[0][0] == "new0"


def test_a_removed_part_of_a_grown_corpus_is_read_again_into_its_place(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(train=12)
    ingest(store, source)
    source = grown(source, "new1")
    second = ingest(store, source)
    store.remove(part_file(CORPUS_DIRECTORY, second.parts[1].name))
    assert listing_of(store, source).known() is None
    source.reads = 0
    assert ingest(store, source) == second
    assert source.reads == 4


def test_an_image_that_was_rejected_is_looked_at_when_it_changes(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(bad=1)
    assert ingest(store, source).rejected == 1
    same = grown(source, "new1")
    second = ingest(store, same)
    assert (second.rejected, same.reads) == (1, 1)
    mended = replace(same, images=same.images | {"t0": picture(0)}, times={"t0": 1}, reads=0)
    assert ingest(store, mended).rejected == 0
    assert mended.reads == 1


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


def test_a_corpus_that_was_what_it_is_again_is_known(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    ingest(store, grown(source, "new1"))
    listing = listing_of(store, source)
    known = listing.known()
    assert known is not None and known[0] == first
    listing.lead(first)
    third = ingest(store, grown(source, "new2"))
    assert third.parts[: len(first.parts)] == first.parts and len(third.parts) == 5
