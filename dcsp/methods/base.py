"""The interface of a cue method: which steps make the cues of each phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from dcsp.config import RunConfig
from dcsp.cues.dcsp import DCSPStage
from dcsp.methods.shared import SaliencySource, Workshop
from dcsp.stages.step import TRAIN, Step
from dcsp.training.stage import TrainStage


class CueMethod(ABC):
    """How cues are mined; one instance a method, without state.

    Phase 0 comes from :meth:`first`. After every phase the network is trained on its cues, and
    :meth:`following` makes those of the next one. A step that other steps made before (the same
    title) may be yielded again: it is done once.
    """

    def rounds(self, config: RunConfig) -> int:
        """How many phases follow phase 0."""
        return config.cues.adapt.rounds

    @abstractmethod
    def saliency(self, shop: Workshop) -> SaliencySource | None:
        """What the saliency losses of the run's trainings learn from; None: nothing."""

    @abstractmethod
    def first(self, shop: Workshop) -> Iterator[Step]:
        """The steps of phase 0 after the FCAN's training; the last is the cue table."""

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """Steps that the FCAN's training needs."""
        yield from ()

    def following(self, shop: Workshop, phase: int, network: TrainStage) -> Iterator[Step]:
        """The steps of a later phase; the last is the cue table.

        By default what the network itself sees among the tags, as ``cues.adapt`` asks.

        Args:
            shop: Makes steps.
            phase: From 1.
            network: The joint training of the phase before.
        """
        cues = shop.adapted(network.key, phase)
        if isinstance(cues, DCSPStage) and cues.saliency:
            yield shop.saliency_step()
        yield Step(f"cues_phase{phase}", cues, TRAIN)

    def fcan(self, shop: Workshop) -> Step:
        """The training of the attention network (paper 4.1)."""
        settings = shop.config.fcan
        return shop.training("fcan", settings, block="fcan", saliency=self.saliency(shop))
