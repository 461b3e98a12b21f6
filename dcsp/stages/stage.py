"""What a stage is: it reads finished tables and leaves one output under the name of its key.

There are two kinds. A :class:`TableStage` makes a table image by image: one part of the corpus in,
one aligned part out. A training (:class:`dcsp.training.stage.TrainStage`) learns from all parts and
leaves a network. Both know what they read, whether they are done, what is left and how it went;
neither knows where it runs: an :class:`Executor` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from dcsp.progress import Progress
from dcsp.stages.libraries import NETWORKS
from dcsp.stages.parts import (
    CORPUS_INPUT,
    PartsMade,
    PartSummary,
    TableInput,
    begin_stage,
    complete_table,
    pending_parts,
    read_part,
    scope,
    write_part,
)
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, manifest_file
from dcsp.tables.snapshot import Part

PartModel = Callable[[pa.Table], pa.Table]
"""A loaded model: the rows of one part in, the same rows with raw results as columns out."""


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


class Executor(Protocol):
    """Where the work of stages happens: a Ray cluster, or this process.

    Every call returns when all is done, and tells of progress on the way.
    """

    def items(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        take: Callable[[Any], None],
        title: str,
    ) -> None:
        """Apply a function to items; ``take`` gets the results in the order of the items."""
        ...

    def parts(
        self, store: Store, stage: TableStage, parts: Sequence[Part], progress: Progress
    ) -> PartsMade:
        """Make parts of a table: only those that are not there yet."""
        ...

    def training(self, store: Store, stage: Any, parts: Sequence[Part], progress: Progress) -> None:
        """Run a training (:class:`dcsp.training.stage.TrainStage`), or go on with a killed one."""
        ...


class Stage(ABC):
    """One output of a store. Implementations are frozen dataclasses, and picklable."""

    learns: ClassVar[bool]
    """Whether it learns from all images together, and leaves a network instead of a table."""

    @property
    @abstractmethod
    def key(self) -> StageKey:
        """What decides the output, and names its directory."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[TableInput, ...]:
        """What is read of each part; the corpus first, with ``image_id``, ``height``, ``width``."""

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        return 0

    @abstractmethod
    def is_done(self, store: Store, parts: Sequence[Part]) -> bool:
        """Whether the output is complete for these parts, none having been removed since."""

    @abstractmethod
    def left(self, store: Store, parts: Sequence[Part]) -> int:
        """Images still to do; of a training that has not ended, those of all its steps."""

    @abstractmethod
    def compute(
        self, executor: Executor, store: Store, parts: Sequence[Part], title: str
    ) -> Callable[[float], dict[str, Any]]:
        """Do what is left.

        Args:
            executor: Where.
            store: The store.
            parts: All parts that the stage works on.
            title: For whoever watches.

        Returns:
            The last act: given the seconds it took, marks the output as complete and returns its
            record.

        Raises:
            DcspError: The stage met something the user must mend.
        """

    @abstractmethod
    def record(self, store: Store, parts: Sequence[Part]) -> dict[str, Any]:
        """What the stage wrote when it ended: ``seconds``, ``bytes`` and a table's ``rows``."""

    @abstractmethod
    def costs_as(self, key: Mapping[str, Any]) -> bool:
        """Whether a stage of this key (:meth:`StageKey.as_dict`) costs as much an image or step."""

    def history(self, store: Store) -> list[dict[str, float]]:
        """The figures of each logged step of a training; of a table none."""
        return []


class TableStage(Stage):
    """Makes one table image by image."""

    learns = False
    libraries: ClassVar[tuple[str, ...]] = NETWORKS
    """Packages that it computes by: each part tells their versions."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Schema of the table."""

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """See :class:`Stage`; the corpus alone, where a stage does not say otherwise."""
        return (CORPUS_INPUT,)

    @property
    def is_of_images_alone(self) -> bool:
        """Whether a row depends on its image alone: on no tags, and on no other stage's output."""
        from_corpus = all(read.directory == CORPUS_DIRECTORY for read in self.inputs)
        has_tags = any("tags" in read.columns for read in self.inputs)
        return from_corpus and not (has_tags or self.key.inputs)

    @abstractmethod
    def load(self, store: Store, device: Device) -> PartModel:
        """Load the model once; runs on the worker that will use it."""

    def finish(self, rows: pa.Table) -> pa.Table:
        """Turn the model's raw results into the table's rows: CPU work without a model."""
        return rows

    def run(self, store: Store, model: PartModel, part: Part) -> PartSummary:
        """Do one part in this process: read, model, finish, write."""
        rows = model(read_part(store, self.inputs, part.name))
        return self.write(store, part, self.finish(rows))

    def write(self, store: Store, part: Part, rows: pa.Table) -> PartSummary:
        """Check the rows of a finished part and write them whole."""
        return write_part(store, self.key.directory, self.schema, part, rows, self.libraries)

    def pending(self, store: Store, parts: Sequence[Part]) -> list[Part]:
        """The parts that are not there yet, in order; costs one listing."""
        return pending_parts(store, self.key.directory, parts)

    def is_done(self, store: Store, parts: Sequence[Part]) -> bool:
        """See :class:`Stage`."""
        return store.exists(self._manifest(parts)) and not self.pending(store, parts)

    def left(self, store: Store, parts: Sequence[Part]) -> int:
        """See :class:`Stage`."""
        return sum(part.rows for part in self.pending(store, parts))

    def compute(
        self, executor: Executor, store: Store, parts: Sequence[Part], title: str
    ) -> Callable[[float], dict[str, Any]]:
        """See :class:`Stage`."""
        pending, made = self.pending(store, parts), PartsMade()
        begin_stage(store, self.key)
        with Progress(title, sum(part.rows for part in pending)) as progress:
            if pending:
                made = executor.parts(store, self, pending, progress)
        return lambda seconds: complete_table(store, self.key, parts, made, seconds)

    def record(self, store: Store, parts: Sequence[Part]) -> dict[str, Any]:
        """See :class:`Stage`."""
        record: dict[str, Any] = store.read_json(self._manifest(parts))
        return record

    def costs_as(self, key: Mapping[str, Any]) -> bool:
        """Tables of the same stage and cue method do."""
        method = key.get("settings", {}).get("method")
        return key.get("stage") == self.key.stage and method == self.key.settings.get("method")

    def _manifest(self, parts: Sequence[Part]) -> str:
        return manifest_file(self.key, scope(parts))
