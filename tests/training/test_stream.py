"""The data order: every row once an epoch, ranks apart, resumable at any row."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.errors import ConfigError, CorpusError
from dcsp.training.stream import (
    PartSlice,
    part_order,
    rank_batch,
    rank_stream,
    row_order,
    stable_seed,
)

PARTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda rows: sum(rows) > 0)


def named(rows: list[int]) -> list[tuple[str, int]]:
    return [(f"part{index}", number) for index, number in enumerate(rows)]


def rows_of(slices: list[PartSlice]) -> list[tuple[int, str, int]]:
    return [(s.epoch, s.part, row) for s in slices for row in range(s.start, s.stop)]


@given(PARTS, st.integers(0, 5))
def test_an_epoch_visits_every_part_that_has_rows_once(rows: list[int], seed: int) -> None:
    parts = named(rows)
    filled = sorted(name for name, number in parts if number)
    order = part_order([name for name, _ in parts], rows, seed, "fcan")
    for epoch in range(3):
        visited = list(islice(order, len(filled)))
        assert {number for number, _ in visited} == {epoch}
        assert sorted(part for _, part in visited) == filled


def test_the_order_depends_on_seed_stage_and_epoch_but_not_on_the_listing() -> None:
    names, rows = [f"p{i}" for i in range(20)], [3] * 20
    first = list(islice(part_order(names, rows, 1, "fcan"), 40))
    assert first == list(islice(part_order(names[::-1], rows, 1, "fcan"), 40))
    assert first != list(islice(part_order(names, rows, 2, "fcan"), 40))
    assert first != list(islice(part_order(names, rows, 1, "joint"), 40))
    assert [part for _, part in first[:20]] != [part for _, part in first[20:]]


@given(PARTS, st.integers(1, 5), st.integers(0, 80), st.integers(0, 3))
def test_each_rank_gets_exactly_the_rows_it_needs_and_shares_none(
    rows: list[int], world: int, needed: int, seed: int
) -> None:
    seen: Counter[tuple[int, str, int]] = Counter()
    for rank in range(world):
        mine = rank_stream(named(rows), seed, rank, world, needed)
        assert len(rows_of(mine)) == needed
        assert all(0 <= s.start < s.stop <= dict(named(rows))[s.part] for s in mine)
        seen.update(rows_of(mine))
    assert all(times == 1 for times in seen.values())


@given(PARTS, st.integers(1, 4), st.integers(0, 40), st.integers(0, 40))
def test_resuming_gives_the_rows_of_an_unbroken_run(
    rows: list[int], world: int, done: int, left: int
) -> None:
    for rank in range(world):
        whole = rank_stream(named(rows), 7, rank, world, done + left)
        before = rank_stream(named(rows), 7, rank, world, done)
        after = rank_stream(named(rows), 7, rank, world, left, rows_to_skip=done)
        assert rows_of(before) + rows_of(after) == rows_of(whole)


@given(PARTS, st.integers(1, 3))
def test_one_rank_sees_whole_epochs(rows: list[int], epochs: int) -> None:
    seen = rows_of(rank_stream(named(rows), 0, 0, 1, epochs * sum(rows)))
    expected = [
        (epoch, name, row)
        for epoch in range(epochs)
        for name, number in named(rows)
        for row in range(number)
    ]
    assert sorted(seen) == sorted(expected)


def test_ranks_take_whole_parts_in_turn() -> None:
    parts = [(f"p{i}", 4) for i in range(6)]
    order = list(islice(part_order([n for n, _ in parts], [4] * 6, 0, "train"), 6))
    for rank in range(2):
        mine = rank_stream(parts, 0, rank, 2, 12)
        assert [(s.epoch, s.part) for s in mine] == order[rank::2]
        assert all((s.start, s.stop) == (0, 4) for s in mine)


def test_ranks_share_a_part_where_there_are_too_few() -> None:
    first, second = (rank_stream([("only", 9)], 0, rank, 2, 4)[0] for rank in range(2))
    assert (first.start, first.stop) == (0, 4)
    assert (second.start, second.stop) == (4, 8)
    assert first.row_order_seed == second.row_order_seed


def test_the_row_order_of_a_part_changes_with_the_epoch() -> None:
    seeds = defaultdict(set)
    for piece in rank_stream([("a", 8), ("b", 8)], 0, 0, 1, 64):
        seeds[piece.part].add(piece.row_order_seed)
    assert len(seeds["a"]) == len(seeds["b"]) == 4
    assert not seeds["a"] & seeds["b"]


def test_a_row_order_is_a_permutation_that_repeats() -> None:
    order = row_order(3, 100)
    assert sorted(order) == list(range(100))
    assert np.array_equal(order, row_order(3, 100))
    assert not np.array_equal(order, row_order(4, 100))


@given(st.integers(1, 300), st.integers(1, 64))
def test_shares_of_a_batch_sum_to_the_batch(batch: int, world: int) -> None:
    if world > batch:
        with pytest.raises(ConfigError, match="cannot be shared"):
            rank_batch(batch, 0, world)
        return
    shares = [rank_batch(batch, rank, world) for rank in range(world)]
    assert sum(shares) == batch
    assert max(shares) - min(shares) <= 1


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert stable_seed(0, "fcan", 3, "2007_000032") == 0xD203335AC3C7DF5D
    assert stable_seed(1, "2") != stable_seed("1", 2) != stable_seed(12)
    assert stable_seed(np.int64(5)) == stable_seed(5)


def test_a_corpus_without_rows_is_the_users_error() -> None:
    with pytest.raises(CorpusError, match="no image to train the stage 'fcan'"):
        part_order(["a"], [0], 0, "fcan")


def test_a_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2"):
        rank_stream([("a", 1)], 0, 2, 2, 1)
