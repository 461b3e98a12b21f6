"""DCSP: hierarchical saliency × attention (Chaudhry, Dokania, Torr 2017)."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.config import DCSPSettings, RunConfig
from dcsp.methods.base import CueMethod
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.training.stage import TrainStage


class DCSPMethod(CueMethod):
    """Algorithm 1 of the paper; later phases adapt."""

    def saliency(self, make: StepMaker) -> SaliencySource:
        """S_k of the settings; S_K where the cues use none."""
        number = make.config.cues.dcsp.saliency_pass or make.config.saliency.passes
        return SaliencySource(make.saliency(), number)

    def last_rule(self, config: RunConfig) -> DCSPSettings | None:
        """That of phase 0, where adapting has none of its own."""
        return config.cues.adapt.dcsp or config.cues.dcsp

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """Hierarchical saliency."""
        yield make.saliency_step()

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """The compared cue tables, then the one that is trained on."""
        settings = make.config.cues
        for name, compared in settings.compare.items():
            stage = make.algorithm_1(compared, fcan.key)
            yield Step(Role.COMPARED, f"cues_{name}", stage)
        yield make.cues(make.algorithm_1(settings.dcsp, fcan.key))
