"""What a source lists is known again, and so is the snapshot that it became."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcsp.store.store import Store
from tests.corpus.shelf import SETTINGS, grown, ingest, listing_of, picture, shelf


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
