"""The interface of a cue method: which steps make the cues of each phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa

from dcsp.config import DCSPSettings, RunConfig
from dcsp.cues.dcsp import DCSPStage
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.training.stage import TrainStage


@dataclass(frozen=True)
class Words:
    """What the report calls a method's parts, and which settings its advice names.

    Attributes:
        maps: Titles of the maps of what stands out, in the order of the table; ``S_1`` … where
            left out.
        later: What makes the cues of later phases, as the subject of a sentence.
        advice: What to set where later phases do not help.
    """

    maps: tuple[str, ...] = ()
    later: str = "Adapting"
    advice: str = "cues.adapt.rounds=0"

    def map_title(self, number: int) -> str:
        """Title of a map, counted from 1."""
        return self.maps[number - 1] if self.maps else f"S_{number}"


class CueMethod(ABC):
    """How cues are mined; one instance a method, without state.

    Phase 0 comes from :meth:`first`. After every phase the network is trained on its cues, and
    :meth:`following` makes those of the next one. A step that was yielded before may be yielded
    again: it is done once.
    """

    words: Words = Words()
    """For the report."""
    schemas: Mapping[str, pa.Schema] = MappingProxyType({})
    """Name → schema of the tables that the method alone makes, for ``dcsp verify``."""

    def rounds(self, config: RunConfig) -> int:
        """How many phases follow phase 0."""
        return config.cues.adapt.rounds

    @abstractmethod
    def saliency(self, make: StepMaker) -> SaliencySource | None:
        """What the saliency losses of the run's trainings learn from; None: nothing."""

    @abstractmethod
    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """The steps of phase 0 after the FCAN's training; the last is the cue table.

        Args:
            make: Makes steps.
            fcan: The training of the attention network.
        """

    def last_rule(self, config: RunConfig) -> DCSPSettings | None:
        """Algorithm 1 that labels images with tags, if it does; see ``predict.tags``."""
        return config.cues.adapt.dcsp

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """Steps that the FCAN's training needs."""
        yield from ()

    def following(self, make: StepMaker, phase: int, network: TrainStage) -> Iterator[Step[Stage]]:
        """The steps of a later phase; the last is the cue table.

        By default what the network itself sees among the tags, as ``cues.adapt`` asks.

        Args:
            make: Makes steps.
            phase: From 1.
            network: The joint training of the phase before.
        """
        cues = make.adapted(network.key, phase)
        if isinstance(cues, DCSPStage) and cues.saliency:
            yield make.saliency_step()
        yield make.cues(cues, phase)


class OnTopOf(CueMethod):
    """Another method's run with other cues in some phase; what it does not say is the other's.

    Args:
        other: The other method.
    """

    def __init__(self, other: CueMethod) -> None:
        self.other = other
        self.words, self.schemas = other.words, other.schemas

    def rounds(self, config: RunConfig) -> int:
        """As the other method."""
        return self.other.rounds(config)

    def last_rule(self, config: RunConfig) -> DCSPSettings | None:
        """As the other method."""
        return self.other.last_rule(config)

    def saliency(self, make: StepMaker) -> SaliencySource | None:
        """As the other method."""
        return self.other.saliency(make)

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """As the other method."""
        return self.other.before_fcan(make)

    def following(self, make: StepMaker, phase: int, network: TrainStage) -> Iterator[Step[Stage]]:
        """As the other method."""
        return self.other.following(make, phase, network)
