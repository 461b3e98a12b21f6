"""Joining small parts: their rows of every table are put together, and nothing is computed again.

Every night that brings a few images leaves a small part. Small parts of a split are joined as soon
as they fill more than half a part; of the joined ones dead rows are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dcsp.corpus.held import Piece, compose
from dcsp.corpus.pack import part_name, write_truth
from dcsp.corpus.recovery import no_truth
from dcsp.stages.parts import live_positions, live_rows
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import HEAD_COLUMNS
from dcsp.tables.snapshot import CorpusPart


def small_groups(parts: Sequence[CorpusPart], part_rows: int) -> Iterator[tuple[int, ...]]:
    """Indices of parts to join, each group of one split.

    A part is small when at most half of ``part_rows`` images are live in it. A group holds more
    than that and at most ``part_rows``: what is joined is not small again.

    Args:
        parts: In order.
        part_rows: Of the corpus settings.
    """
    for split in sorted({part.split for part in parts}):
        group: list[int] = []
        held = 0
        for index, part in enumerate(parts):
            if part.split != split or 2 * part.live > part_rows:
                continue
            group.append(index)
            held += part.live
            if 2 * held > part_rows:
                if len(group) > 1:
                    yield tuple(group)
                group, held = [], 0


@dataclass(frozen=True)
class Joiner:
    """Joins parts; picklable, so that any worker can do it.

    Attributes:
        store: The store.
        directories: Of all tables that are aligned with the corpus.
    """

    store: Store
    directories: tuple[str, ...]

    def __call__(self, parts: Sequence[CorpusPart]) -> CorpusPart:
        """Write the joined part of the corpus and of every table that has all of its pieces."""
        corpus = self._live([part_file(CORPUS_DIRECTORY, part.name) for part in parts], parts)
        name = part_name(corpus)
        pieces = [Piece(part.name, live_positions(part.part)) for part in parts]
        compose(self.store, self.directories, name, pieces)
        truth = write_truth(self.store, name, self._truth(parts))
        self.store.write_table(part_file(CORPUS_DIRECTORY, name), corpus)
        return CorpusPart(name, parts[0].split, corpus.num_rows, truth)

    def _live(self, files: Sequence[str], parts: Sequence[CorpusPart]) -> pa.Table:
        tables = [self.store.read_table(file) for file in files]
        pairs = zip(tables, parts, strict=True)
        return pa.concat_tables([live_rows(table, part.dead) for table, part in pairs])

    def _truth(self, parts: Sequence[CorpusPart]) -> pa.Table:
        return pa.concat_tables(
            [
                live_rows(self.store.read_table(part.truth), part.dead)
                if part.truth
                else self._no_truth(part)
                for part in parts
            ]
        )

    def _no_truth(self, part: CorpusPart) -> pa.Table:
        file = part_file(CORPUS_DIRECTORY, part.name)
        return no_truth(live_rows(self.store.read_table(file, HEAD_COLUMNS), part.dead))
