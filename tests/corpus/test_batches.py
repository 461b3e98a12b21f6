"""Of the listed rows some are taken, and those that are read together make a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcsp.corpus.batches import plan_batches, select_rows
from dcsp.corpus.sources.base import SourceRow
from dcsp.tables.schemas import REJECTED


def row(name: str, *tags: str, split: str = "train", uri: str = "") -> SourceRow:
    return SourceRow(name, uri or f"mem/{name}", split, tags, None, "")


def test_duplicates_are_rejected_and_train_comes_first() -> None:
    rows = [row("a", split="val", uri="1"), row("a", uri="9"), row("a", uri="2"), row("b")]
    selected, rejected = select_rows(rows)
    assert {(r.image_id, r.uri) for r in selected} == {("a", "2"), ("b", "mem/b")}
    assert {(r["uri"], r["reason"]) for r in rejected.to_pylist()} == {
        ("9", "duplicate_id"),
        ("1", "duplicate_id"),
    }
    assert rejected.schema == REJECTED


def test_a_row_of_no_known_split_takes_no_id() -> None:
    selected, rejected = select_rows([row("a", split="holdout", uri="1"), row("a", uri="2")])
    assert [(r.split, r.uri) for r in selected] == [("train", "2")]
    assert rejected["split"].to_pylist() == ["holdout"]


def test_a_larger_limit_keeps_what_a_smaller_one_took() -> None:
    rows = [row(str(n), split=("train", "val")[n % 2]) for n in range(40)]
    small, large = ({r.image_id for r in select_rows(rows, limit)[0]} for limit in (5, 9))
    assert (len(small), len(large)) == (10, 18)
    assert small < large
    assert len(select_rows(rows)[0]) == 40


@given(st.sets(st.integers(0, 99), max_size=30), st.integers(1, 8), st.randoms())
def test_batches_are_whole_and_do_not_depend_on_the_listing_order(
    numbers: set[int], part_rows: int, random: Any
) -> None:
    rows = [row(str(n), split="val" if n % 3 else "train") for n in numbers]
    batches = plan_batches(rows, part_rows)
    random.shuffle(rows)
    assert plan_batches(select_rows(rows)[0], part_rows) == batches
    assert sorted(r.image_id for batch in batches for r in batch) == sorted(map(str, numbers))
    assert all(1 <= len(batch) <= part_rows for batch in batches)
    assert all(len({r.split for r in batch}) == 1 for batch in batches)


def test_rows_of_a_shard_stay_together() -> None:
    rows = [replace(row(str(n)), shard=f"s{n % 3}") for n in range(12)]
    batches = plan_batches(rows, 4)
    assert len(batches) == 3
    assert all(len({r.shard for r in batch}) == 1 for batch in batches)
