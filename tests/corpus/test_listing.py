"""What a source lists is known again, and so is the snapshot that it became."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcsp.corpus.listing import list_corpus
from dcsp.store.store import Store
from tests.corpus.shelf import SETTINGS, grown, ingest, ingest_here, listing_of, picture, shelf


def test_a_second_ingest_reads_no_image(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    source.reads = 0
    assert ingest(store, source) == first
    assert source.reads == 0
    known = listing_of(store, source).known()
    assert known == (first, 1.0)


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


def test_what_is_no_image_is_told_and_the_books_balance(tmp_path: Path) -> None:
    """Listed is what is in the corpus, skipped, rejected or counted; the second time as well."""
    root, masks = tmp_path / "photos", tmp_path / "masks"
    for folder in (root, masks):
        folder.mkdir()
    for name in ("a.jpg", "b.jfif", "c.png", "d.JPG"):
        (root / name).write_bytes(picture(len(name)))
    for name in ("e.heic", "f.HEIC", "g.mov", ".h.jpg", "broken.jpg"):
        (root / name).write_bytes(b"-")
    for name in ("a.PNG", "a_mask.png"):
        (masks / name).write_bytes(picture(1))
    (root / "tags.csv").write_text("image,tags,split\nd,cat,test\nc,cat,\na,cat,\nzebra,dog,\n")
    told = {"root": str(root), "masks": str(masks), "limit": 4, "max_rejected_share": 0.6}
    settings = SETTINGS.model_copy(update=told)
    for _ in range(2):
        listing = list_corpus(Store(tmp_path / "store"), settings, seed=0)
        known = listing.known()
        snapshot = known[0] if known else ingest_here(listing).snapshot
        listing.remember(snapshot, 1.0)
        images = sum(part.live for part in snapshot.parts)
        counted = listing.listed.others.total()
        assert listing.listed.found == images + listing.skipped + snapshot.rejected + counted == 10
        assert snapshot.masks.idle == 1
        skipped, others, idle = listing.notes()
        assert skipped.startswith("2 images skipped")
        assert ": 2 .heic, 1 hidden, 1 .mov; save pictures among them" in others
        assert idle.startswith("1 mask called like no image, such as a_mask.png: ")


def test_books_that_do_not_balance_end_an_ingest(tmp_path: Path) -> None:
    listing = listing_of(Store(tmp_path), shelf())
    listed = replace(listing.listed, found=14, others=Counter({".heic": 1}))
    assert ingest_here(replace(listing, listed=listed)).snapshot
    with pytest.raises(AssertionError, match="14 files were seen, and 13 are accounted for"):
        replace(listing.listed, found=14)
    object.__setattr__(listing.listed, "found", 14)
    with pytest.raises(AssertionError, match="14 files were found"):
        ingest_here(listing)
