"""The data order: every row once an epoch, the same batches by any number of ranks."""

from __future__ import annotations

import json
from collections import defaultdict
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
    rank_share,
    rank_stream,
    row_order,
    stable_seed,
)

PARTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda rows: sum(rows) > 0)


def named(rows: list[int]) -> list[tuple[str, int]]:
    return [(f"part{index}", number) for index, number in enumerate(rows)]


Row = tuple[int, str, int]
"""Epoch, part and position of a row in the part."""


def rows_of(slices: list[PartSlice], rows: list[int]) -> list[Row]:
    live = dict(named(rows))
    found = [(s.epoch, s.part, int(row)) for s in slices for row in s.rows(live[s.part])]
    assert len(found) == sum(piece.samples for piece in slices)
    return found


def batches_of(rows: list[int], world: int, batch: int, steps: int, done: int = 0) -> list[Row]:
    """All batches in order, put together from what each rank reads."""
    shares = [rank_share(batch, rank, world) for rank in range(world)]
    streams = [rows_of(rank_stream(named(rows), 7, share, steps, done), rows) for share in shares]
    sizes = [share.stop - share.first for share in shares]
    assert [len(stream) for stream in streams] == [size * (steps - done) for size in sizes]
    return [
        row
        for step in range(steps - done)
        for stream, size in zip(streams, sizes, strict=True)
        for row in stream[step * size : (step + 1) * size]
    ]


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


@given(PARTS, st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
def test_batches_are_the_same_whatever_the_number_of_ranks(
    rows: list[int], world: int, batch: int, steps: int
) -> None:
    assert batches_of(rows, min(world, batch), batch, steps) == batches_of(rows, 1, batch, steps)


@given(PARTS, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 12))
def test_other_ranks_go_on_where_a_training_was_left(
    rows: list[int], batch: int, before: int, after: int, done: int
) -> None:
    whole = batches_of(rows, 1, batch, 12)
    first = batches_of(rows, min(before, batch), batch, done)
    rest = batches_of(rows, min(after, batch), batch, 12, done)
    assert first + rest == whole


@given(PARTS, st.integers(1, 4), st.integers(1, 3))
def test_every_row_is_seen_once_an_epoch(rows: list[int], world: int, epochs: int) -> None:
    world = min(world, sum(rows))  # a batch of all rows
    seen = batches_of(rows, world, sum(rows), epochs)
    expected = [
        (epoch, name, row)
        for epoch in range(epochs)
        for name, number in named(rows)
        for row in range(number)
    ]
    assert sorted(seen) == sorted(expected)


def test_a_rank_skips_parts_that_it_has_no_row_of() -> None:
    one_row_each = [1] * 6
    taken = rank_stream(named(one_row_each), 0, rank_share(2, 1, 2), 3)
    assert len(taken) == 3 and all(piece.samples == 1 for piece in taken)


def test_a_slice_survives_json() -> None:
    for piece in rank_stream([("a", 8)], 0, rank_share(3, 1, 2), 5):
        piece = piece._replace(dead=(1, 4))
        again = PartSlice.from_json(json.loads(json.dumps(piece)))
        assert list(again.rows(8)) == list(piece.rows(8))
        assert again._replace(dead=(1, 4)) == piece and list(again.dead) == [1, 4]


def test_the_row_order_of_a_part_changes_with_the_epoch() -> None:
    seeds = defaultdict(set)
    for piece in rank_stream([("a", 8), ("b", 8)], 0, rank_share(8, 0, 1), 8):
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


def test_more_steps_done_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4 steps"):
        rank_stream([("a", 1)], 0, rank_share(2, 0, 1), 4, done=5)
