"""What a stage is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey

PartModel = Callable[[pa.Table], pa.Table]
"""A loaded model: the rows of one part in, the same rows with raw results as columns out."""


@dataclass(frozen=True)
class TableInput:
    """Columns that a stage reads of another aligned table.

    Attributes:
        name: Prefix of the columns in the zipped part (``name.column``); ``""`` for the corpus.
        directory: Directory of the table in the store.
        columns: Columns to read.
    """

    name: str
    directory: str
    columns: tuple[str, ...]

    def column(self, column: str) -> str:
        """Name of one of the columns in the zipped part."""
        return f"{self.name}.{column}" if self.name else column


@dataclass(frozen=True)
class Device:
    """Where a model runs.

    Attributes:
        name: A torch device name.
        threads: CPU threads of the model.
    """

    name: str = "cpu"
    threads: int = 1

    @property
    def decoders(self) -> int:
        """Threads that decode images ahead of the model; a GPU is fed by its share of a node."""
        return max(2, self.threads) if self.name == "cpu" else 8

    @property
    def in_flight(self) -> int:
        """Batches the model works on at once: with two, a GPU has work while results are taken.

        Both have their activations in its memory.
        """
        return 1 if self.name == "cpu" else 2


class PartMap(Protocol):
    """A stage that makes one table image by image. Implementations are frozen and picklable."""

    @property
    def key(self) -> StageKey:
        """What decides the table; its stage name is the table's name in the store."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Schema of the table."""
        ...

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What is read; the corpus first, with ``image_id``, ``height`` and ``width``."""
        ...

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the model once; runs on the worker that will use it."""
        ...

    def finish(self, rows: pa.Table) -> pa.Table:
        """Turn the model's raw results into the table's rows: CPU work without a model."""
        ...
