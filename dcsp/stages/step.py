"""One stage of a run with its title and the images it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcsp.networks.checkpoint import checkpoint_is_complete
from dcsp.stages.parts import pending_parts, scope
from dcsp.stages.stage import PartMap
from dcsp.store.store import Store
from dcsp.tables.layout import manifest_file
from dcsp.tables.snapshot import Part, Snapshot
from dcsp.training.stage import TrainStage

TRAIN = ("train",)
"""Splits that cues are mined of and networks learn from."""


@dataclass(frozen=True)
class Step:
    """One stage of a plan and the parts of the corpus it works on.

    Attributes:
        title: Name in logs, metrics and ``--until``, such as ``"cues_phase0"``.
        stage: What to do.
        splits: Splits of the corpus it reads.
        needs_snapshot: Whether its fingerprint depends on what the corpus holds.
        corpus: The corpus it works on, where that is always one and the same; None: the plan's.
        prepare: What is done once before the first part of a table, in the job's own process;
            returns a line that tells of it. It does nothing where it was done before.
    """

    title: str
    stage: PartMap | TrainStage
    splits: tuple[str, ...]
    needs_snapshot: bool = True
    corpus: Snapshot | None = None
    prepare: Callable[[Store], str] | None = None

    def parts(self, snapshot: Snapshot) -> list[Part]:
        """The parts it works on."""
        return (self.corpus or snapshot).of(self.splits)

    def scope(self, snapshot: Snapshot) -> str:
        """Names the rows that a table must have to be complete for this snapshot."""
        return scope(self.parts(snapshot))

    def is_done(self, store: Store, snapshot: Snapshot) -> bool:
        """Whether its output is complete in the store, no part having been removed since."""
        if isinstance(self.stage, TrainStage):
            return checkpoint_is_complete(store, self.stage.key.directory)
        manifest = manifest_file(self.stage.key, self.scope(snapshot))
        return store.exists(manifest) and not self.rows_left(store, snapshot)

    def rows_left(self, store: Store, snapshot: Snapshot) -> int:
        """Images still to do; for a training that has not ended, those of all its steps."""
        if not isinstance(self.stage, TrainStage):
            return sum(p.rows for p in pending_parts(store, self.stage, self.parts(snapshot)))
        if checkpoint_is_complete(store, self.stage.key.directory):
            return 0
        return self.stage.settings.steps * self.stage.settings.batch
