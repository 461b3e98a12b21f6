"""The few images that a probe looks at: of a snapshot, or of a listing before its ingest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from dcsp.capacity.pace import Pace
from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.listing import Listing
from dcsp.corpus.pack import Packer, part_name
from dcsp.corpus.sources.base import SourceRow
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, TRUTH_DIRECTORY, file_name, part_file
from dcsp.tables.schemas import CORPUS
from dcsp.tables.snapshot import TRAIN, CorpusPart, Snapshot

IMAGES = 16
"""How many images a probe looks at."""

Result = TypeVar("Result")


class Sample(Protocol):
    """Puts a few images of a corpus into another store; picklable."""

    def __call__(self, scratch: Store) -> tuple[CorpusPart | None, Pace | None]:
        """The part they became, none where all are rejected, and what ingesting cost."""
        ...


@dataclass(frozen=True)
class StoredSample:
    """Images of the first parts of a snapshot, evenly spread.

    Attributes:
        store: Of the corpus.
        parts: Training parts in order, with enough images.
    """

    store: Store
    parts: tuple[CorpusPart, ...]

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> StoredSample:
        """Of the first parts that together have enough training images."""
        taken: list[CorpusPart] = []
        for part in snapshot.parts:
            if part.split == TRAIN and sum(p.rows for p in taken) < IMAGES:
                taken.append(part)
        return cls(store, tuple(taken))

    def __call__(self, scratch: Store) -> tuple[CorpusPart, None]:
        """See :class:`Sample`."""
        files = [part_file(CORPUS_DIRECTORY, part.name) for part in self.parts]
        corpus = pa.concat_tables([self.store.read_table(file) for file in files])
        chosen = _spread(corpus.num_rows)
        table = corpus.take(chosen)
        name, truth = part_name(table), None
        scratch.write_table(part_file(CORPUS_DIRECTORY, name), table)
        if all(part.truth for part in self.parts):
            masks = [self.store.read_table(part.truth) for part in self.parts if part.truth]
            truth = part_file(TRUTH_DIRECTORY, name)
            scratch.write_table(truth, pa.concat_tables(masks).take(chosen))
        return CorpusPart(name, TRAIN, len(chosen), truth), None


@dataclass(frozen=True)
class ListedSample:
    """Images that a source lists, of the first that would become a part; nothing is ingested yet.

    Attributes:
        packer: Of the listing.
        rows: The images.
    """

    packer: Packer
    rows: tuple[SourceRow, ...]

    @classmethod
    def of(cls, listing: Listing, part_rows: int) -> ListedSample:
        """Of the first training images, evenly spread."""
        batches = plan_batches((r for r in listing.rows if r.split == TRAIN), part_rows)
        rows: list[SourceRow] = []
        for batch in batches:
            rows += batch if len(rows) < IMAGES else []
        return cls(listing.packer, tuple(rows[i] for i in _spread(len(rows))))

    def __call__(self, scratch: Store) -> tuple[CorpusPart | None, Pace]:
        """See :class:`Sample`."""
        record, seconds = timed(lambda: replace(self.packer, store=scratch)(Batch(self.rows)))
        part = CorpusPart.of(record["part"]) if record["part"] else None
        each = seconds / max(1, len(self.rows))
        if part is None:
            return None, Pace("probe", 0.0, 0.0, each, 0.0)
        size = scratch.sizes(CORPUS_DIRECTORY)[file_name(part.name)]
        empty = empty_part(scratch, CORPUS)
        row = (size - empty) / part.rows
        return part, Pace("probe", 0.0, 0.0, each, row, part_bytes=empty)


def empty_part(store: Store, schema: pa.Schema) -> int:
    """Bytes of a part without rows."""
    return store.write_table("empty.parquet", schema.empty_table())


def _spread(rows: int) -> list[int]:
    """Evenly spaced row numbers, as many as a probe looks at."""
    return sorted(set(np.linspace(0, rows - 1, min(rows, IMAGES)).round().astype(int).tolist()))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What some work returns, and the seconds it took."""
    started = time.monotonic()
    result = work()
    return result, time.monotonic() - started
