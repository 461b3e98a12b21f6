"""One step of a run: a stage, what it is for, and the images that it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from dcsp.stages.parts import scope
from dcsp.stages.stage import Stage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.snapshot import TRAIN, Part, Snapshot

StageT_co = TypeVar("StageT_co", bound=Stage, covariant=True)


class Role(Enum):
    """What a step is for; what looks for a step looks for its role and phase."""

    CORRECTIONS = "corrections"
    """Label maps that people have corrected."""
    MAPS = "maps"
    """Where things stand out: saliency, or what a method has in its place."""
    TABLE = "table"
    """Another table that a method reads, such as superpixels."""
    FCAN = "fcan"
    """Training of the attention network (paper 4.1)."""
    HELPER = "helper"
    """Training of a network that a cue method needs for itself."""
    START = "start"
    """Cues that a method makes better, for those of phase 0."""
    SEEDS = "seeds"
    """Cues that a helper network learns from."""
    COMPARED = "compared"
    """Cues mined to be measured alone."""
    CUES = "cues"
    """Cues that a phase of joint training learns from."""
    SELFSTART = "selfstart"
    """As ``START``, by self-tags."""
    SELFCUES = "selfcues"
    """As ``CUES``, by self-tags, of untagged images."""
    TAG_SCORES = "tag_scores"
    """Image scores that thresholds of self-tags are calibrated on."""
    SELFTAGS = "selftags"
    """Tags of the network's own."""
    JOINT = "joint"
    """Joint training of a phase (paper 4.3)."""
    PREDICTIONS = "predictions"
    """Labels of every image by the last network."""
    TRUST = "trust"
    """How far to trust each of them."""

    @property
    def is_cues(self) -> bool:
        """Whether its tables hold labels to be measured as cues."""
        return self in _CUES


_CUES = (Role.START, Role.SEEDS, Role.COMPARED, Role.CUES, Role.SELFSTART, Role.SELFCUES)
_PREFIX = "cues_"


@dataclass(frozen=True)
class Step(Generic[StageT_co]):
    """One stage of a plan and the parts of the corpus it works on.

    Attributes:
        role: What it is for.
        title: Printed, written to logs and metrics, and given to ``--until``; nothing is found by
            it but what a person names.
        stage: What to do.
        phase: Of cues and joint trainings, from 0; None where there is one for all phases.
        splits: Splits of the corpus it reads.
        corpus: The corpus it works on, where that is always one and the same; None: the plan's.
        prepare: What is done once before the first part of a table, in the job's own process;
            returns a line that tells of it. It does nothing where it was done before.
        also_reads: Key of a stage that ``prepare`` reads.
    """

    role: Role
    title: str
    stage: StageT_co
    phase: int | None = None
    splits: tuple[str, ...] = (TRAIN,)
    corpus: Snapshot | None = None
    prepare: Callable[[Store], str] | None = None
    also_reads: StageKey | None = None

    @property
    def name(self) -> str:
        """Its short name among cues, such as ``phase0`` for ``cues_phase0``."""
        return self.title.removeprefix(_PREFIX)

    @property
    def reads(self) -> set[str]:
        """Fingerprints of the stages whose output it reads."""
        also = {self.also_reads.fingerprint} if self.also_reads else set()
        return also | set(self.stage.key.inputs.values())

    @property
    def needs_snapshot(self) -> bool:
        """Whether its fingerprint depends on the corpus: on what its inputs learned from."""
        return bool(self.stage.key.inputs)

    def parts(self, snapshot: Snapshot) -> list[Part]:
        """The parts it works on."""
        return (self.corpus or snapshot).of(self.splits)

    def scope(self, snapshot: Snapshot) -> str:
        """Names the rows that a table must have to be complete for this snapshot."""
        return scope(self.parts(snapshot))
