"""AffinityNet (Ahn and Kwak 2018): a method of its own, and a refinement of others'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dcsp.config import DCSPSettings
from dcsp.cues.stage import EvidenceStage
from dcsp.errors import ConfigError
from dcsp.methods.affinity.areas import AreasStage
from dcsp.methods.affinity.cues import AffinityStage
from dcsp.methods.affinity.recipe import AffinityRecipe
from dcsp.methods.base import CueMethod, OnTopOf
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.training.recipe import TrainingInput
from dcsp.training.stage import TrainStage


class AttentionMethod(CueMethod):
    """Attention alone: what AffinityNet starts from."""

    def saliency(self, make: StepMaker) -> SaliencySource | None:
        """None is needed; where a loss asks for it, S_K."""
        trained = (make.config.fcan, make.config.joint)
        if not any(settings.needs_saliency for settings in trained):
            return None
        return SaliencySource(make.saliency(), make.config.saliency.passes)

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """Saliency, where a loss asks for it."""
        if self.saliency(make):
            yield make.saliency_step()

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """Attention against a threshold."""
        own = make.config.cues.affinity
        settings = DCSPSettings(
            attention=own.attention, saliency_pass=0, gamma_low=own.gamma, gamma_high=own.gamma
        )
        yield make.cues(make.algorithm_1(settings, fcan.key))


class AffinityMethod(OnTopOf):
    """Phase 0 of another method, spread by a random walk over learned affinities."""

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """The other method's cues, their confident areas, the affinity network, the walk."""
        *before, last = self.other.first(make, fcan)
        start = last.stage
        if not isinstance(start, EvidenceStage):
            raise ConfigError(
                f"cues.refine=affinity starts from evidence of the tags, which the cues of "
                f"cues.method={make.config.cues.method} do not tell: leave refine out."
            )
        yield from before
        areas = AreasStage(make.config, start)
        settings = make.config.cues.affinity
        recipe = AffinityRecipe("affinity", "cues.affinity.train", settings.train, settings.radius)
        learned = TrainingInput("cues", areas.key, "label", "cue")
        network = make.training(Role.HELPER, recipe, (learned,))
        yield replace(last, role=Role.START, title="cues_start")
        yield Step(Role.SEEDS, "cues_areas", areas)
        yield network
        yield make.cues(AffinityStage(make.config, start, network.stage.key))
