"""Rejected images are told; too many of them stop an ingest early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dcsp.corpus.rejected import RejectionCounter
from dcsp.errors import CorpusError
from dcsp.store.store import Store
from dcsp.tables.layout import rejected_file
from dcsp.tables.schemas import REJECTED
from tests.corpus.shelf import SETTINGS, ingest, ingest_here, listing_of, shelf

NONE_REJECTED = REJECTED.empty_table()


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


def test_erased_images_count_as_rejected_and_towards_no_limit() -> None:
    row = {"image_id": "", "uri": "", "split": "train", "stage": "list"}
    rows = [row | {"reason": "erased", "message": "it was erased"}] * 9
    left_out = pa.Table.from_pylist(rows, REJECTED)
    counter = RejectionCounter(0.0, left_out, NONE_REJECTED, 0)
    counter.add(record(1, 0))
    counter.check()
    assert counter.lost == counter.erased == counter.rejected.num_rows == 9
