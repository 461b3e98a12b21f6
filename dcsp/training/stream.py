"""The order in which training sees its data: pure arithmetic on part names and row counts.

An epoch visits every part once, in seeded order; within a part the rows are permuted by a seed of
their own. Ranks take parts in turn, so no rank reads what another one trains on, and each gets
exactly the rows it needs. Nothing here opens a file: skipping to any step costs no decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcsp.errors import ConfigError, CorpusError


class PartSlice(NamedTuple):
    """Rows ``row_order(row_order_seed, rows)[start:stop]`` of the live rows of a part in one epoch.

    Attributes:
        epoch: From 0; also what the augmentation of these rows depends on.
        part: Name of the part.
        row_order_seed: Seed of the order of the part's rows in this epoch.
        start: First position in that order.
        stop: One past the last position.
        dead: Positions of the part's rows that are no longer part of the corpus.
    """

    epoch: int
    part: str
    row_order_seed: int
    start: int
    stop: int
    dead: Sequence[int] = ()


class Rank(NamedTuple):
    """One of the processes of a training: its number, and how many there are."""

    number: int = 0
    world: int = 1


def stable_seed(*keys: str | int) -> int:
    """A 64-bit seed that depends on the keys and their order alone, on every machine."""
    text = "\x1f".join(f"s{key}" if isinstance(key, str) else f"i{int(key)}" for key in keys)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def part_order(
    parts: Sequence[str], rows_per_part: Sequence[int], seed: int, stage: str
) -> Iterator[tuple[int, str]]:
    """The endless order of (epoch, part): every epoch a new seeded permutation of the parts.

    The order does not depend on the order of ``parts``. Parts without rows are left out.

    Args:
        parts: Unique names.
        rows_per_part: Rows of each part, in the same order.
        seed: Of the run.
        stage: Name of the training stage, so that stages differ in order.

    Raises:
        CorpusError: No part has a row.
    """
    names = sorted(name for name, rows in zip(parts, rows_per_part, strict=True) if rows > 0)
    if not names:
        raise CorpusError(
            f"There is no image to train the stage {stage!r} on: the corpus needs tagged images "
            "in its train split."
        )
    return _epochs(names, seed, stage)


def row_order(row_order_seed: int, rows: int) -> NDArray[np.int64]:
    """The order in which a part's rows are visited: a permutation of 0 … rows − 1."""
    return np.random.default_rng(row_order_seed).permutation(rows)


def rank_batch(batch: int, rank: int, world: int) -> int:
    """Images of the global batch that fall to one rank; over all ranks they sum to ``batch``.

    Raises:
        ConfigError: There are more ranks than images in a batch.
    """
    if world > batch:
        raise ConfigError(
            f"A batch of {batch} cannot be shared by {world} training workers: raise the stage's "
            f"batch or set cluster.train_workers to {batch} or less."
        )
    return batch // world + (rank < batch % world)


def rank_stream(
    parts: Sequence[tuple[str, int]],
    seed: int,
    rank: int,
    world: int,
    rows_needed: int,
    rows_to_skip: int = 0,
    stage: str = "train",
) -> list[PartSlice]:
    """What one rank reads, in order: exactly ``rows_needed`` rows after the first ``rows_to_skip``.

    The parts of :func:`part_order` are dealt to the ranks in turn. Where there are fewer parts than
    ranks, each part is cut into equal slices of its row order, and the slices are dealt. No two
    ranks ever get the same row of the same epoch. Joining two calls, the second skipping what the
    first one needed, gives the rows of one long call.

    Args:
        parts: (name, live rows) of every part with training images.
        seed: Of the run.
        rank: 0 … world − 1.
        world: Number of training workers.
        rows_needed: Steps still to do × :func:`rank_batch`.
        rows_to_skip: Steps done × :func:`rank_batch`.
        stage: Name of the training stage.

    Raises:
        CorpusError: No part has a row.
        ValueError: ``rank``, ``rows_needed`` or ``rows_to_skip`` is out of range.
    """
    if not 0 <= rank < world or rows_needed < 0 or rows_to_skip < 0:
        raise ValueError(
            f"rank {rank} of {world} cannot take {rows_needed} rows after {rows_to_skip}"
        )
    taken: list[PartSlice] = []
    skip, need = rows_to_skip, rows_needed
    for piece in _rank_slices(dict(parts), seed, rank, world, stage):
        if need == 0:
            break
        length = piece.stop - piece.start
        if skip >= length:
            skip -= length
            continue
        start = piece.start + skip
        stop = min(piece.stop, start + need)
        taken.append(piece._replace(start=start, stop=stop))
        need -= stop - start
        skip = 0
    return taken


def _epochs(names: list[str], seed: int, stage: str) -> Iterator[tuple[int, str]]:
    for epoch in count():
        order = np.random.default_rng(stable_seed(seed, stage, epoch)).permutation(len(names))
        for index in order:
            yield epoch, names[index]


def _rank_slices(
    rows: dict[str, int], seed: int, rank: int, world: int, stage: str
) -> Iterator[PartSlice]:
    filled = sum(number > 0 for number in rows.values())
    pieces = -(-world // max(filled, 1))
    dealt = 0
    for epoch, part in part_order(list(rows), list(rows.values()), seed, stage):
        row_order_seed = stable_seed(seed, stage, epoch, part)
        for piece in range(pieces):
            start = rows[part] * piece // pieces
            stop = rows[part] * (piece + 1) // pieces
            if start == stop:  # never dealt: a rank could get nothing else for ever
                continue
            if dealt % world == rank:
                yield PartSlice(epoch, part, row_order_seed, start, stop)
            dealt += 1


def rebatch(
    stacks: Iterable[Mapping[str, NDArray[Any]]], size: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Cut stacks of samples of any length into batches of one size, in order.

    Args:
        stacks: Arrays of equal first axis by name, as
            :func:`dcsp.training.augment.make_samples` makes.
        size: Samples in a batch.

    Yields:
        Batches; samples that do not fill a last one are dropped.
    """
    waiting: dict[str, NDArray[Any]] = {}
    for stack in stacks:
        waiting = {
            name: np.concatenate([waiting[name], array]) if waiting else array
            for name, array in stack.items()
        }
        while len(next(iter(waiting.values()))) >= size:
            yield {name: array[:size] for name, array in waiting.items()}
            waiting = {name: array[size:] for name, array in waiting.items()}
