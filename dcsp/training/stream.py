"""The order in which training sees its data: pure arithmetic on part names and row counts.

An epoch visits every part once, in seeded order; within a part the rows are permuted by a seed of
their own. Batches are cut from that one order, whatever the number of ranks: each rank takes its
share of every batch, so that another number of workers learns from the same batches and leaves no
row out, also from the middle of an epoch. A rank reads the parts that all read, and decodes its own
rows alone. Nothing here opens a file: skipping to any step costs no decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dcsp.errors import ConfigError, CorpusError


class Share(NamedTuple):
    """What falls to one rank: positions ``first`` to ``stop`` − 1 of each batch of ``batch``."""

    first: int
    stop: int
    batch: int

    def before(self, position: int) -> int:
        """How many of the first positions of the whole order are in it."""
        batches, rest = divmod(position, self.batch)
        size = self.stop - self.first
        return batches * size + min(max(rest - self.first, 0), size)


class PartSlice(NamedTuple):
    """Rows of the live rows of a part in one epoch: what a share has of a span of their order.

    Attributes:
        epoch: From 0; also what the augmentation of these rows depends on.
        part: Name of the part.
        row_order_seed: Seed of the order of the part's rows in this epoch.
        start: First position in that order.
        stop: One past the last position.
        place: Position of the first one in its batch.
        share: The rank's.
        dead: Positions of the part's rows that are no longer part of the corpus.
    """

    epoch: int
    part: str
    row_order_seed: int
    start: int
    stop: int
    place: int
    share: Share
    dead: Sequence[int] = ()

    @property
    def samples(self) -> int:
        """How many rows."""
        return self.share.before(self.place + self.stop - self.start) - self.share.before(
            self.place
        )

    def rows(self, live: int) -> NDArray[np.int64]:
        """Their positions among the part's live rows, in order.

        Args:
            live: Number of the part's live rows.
        """
        order = row_order(self.row_order_seed, live)[self.start : self.stop]
        places = (self.place + np.arange(len(order))) % self.share.batch
        return order[(places >= self.share.first) & (places < self.share.stop)]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> PartSlice:
        """The slice that ``json.dumps`` has made a list of."""
        made = cls(*values)
        return made._replace(share=Share(*made.share))


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


def rank_share(batch: int, rank: int, world: int) -> Share:
    """The part of each batch that falls to one rank; those of all ranks are the batch.

    Raises:
        ConfigError: There are more ranks than images in a batch.
    """
    if world > batch:
        raise ConfigError(
            f"A batch of {batch} cannot be shared by {world} training workers: raise the stage's "
            f"batch or set cluster.train_workers to {batch} or less."
        )
    size, more = divmod(batch, world)
    first = rank * size + min(rank, more)
    return Share(first, first + size + (rank < more), batch)


def rank_batch(batch: int, rank: int, world: int) -> int:
    """Images of a batch that fall to one rank.

    Raises:
        ConfigError: There are more ranks than images in a batch.
    """
    share = rank_share(batch, rank, world)
    return share.stop - share.first


def rank_stream(
    parts: Sequence[tuple[str, int]],
    seed: int,
    share: Share,
    steps: int,
    done: int = 0,
    stage: str = "train",
) -> list[PartSlice]:
    """What one rank reads, in order: its share of the batches of all steps that are left.

    Args:
        parts: (name, live rows) of every part with training images.
        seed: Of the run.
        share: The rank's.
        steps: Of the whole training.
        done: Steps that were done before, by however many ranks.
        stage: Name of the training stage.

    Raises:
        CorpusError: No part has a row.
        ValueError: More steps are done than there are.
    """
    if not 0 <= done <= steps:
        raise ValueError(f"{done} of {steps} steps cannot be done")
    rows, at, begin, end = dict(parts), 0, done * share.batch, steps * share.batch
    taken: list[PartSlice] = []
    for epoch, part in part_order(list(rows), list(rows.values()), seed, stage):
        start, stop = max(begin - at, 0), min(rows[part], end - at)
        if start < stop:
            place, own_seed = (at + start) % share.batch, stable_seed(seed, stage, epoch, part)
            piece = PartSlice(epoch, part, own_seed, start, stop, place, share)
            taken += [piece] if piece.samples else []
        at += rows[part]
        if at >= end:
            return taken
    raise AssertionError("the order of parts is endless")


def _epochs(names: list[str], seed: int, stage: str) -> Iterator[tuple[int, str]]:
    for epoch in count():
        order = np.random.default_rng(stable_seed(seed, stage, epoch)).permutation(len(names))
        for index in order:
            yield epoch, names[index]


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
