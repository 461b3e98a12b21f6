"""Built-in priors (Saleh et al. 2016): foreground from the backbone itself, no detector."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from dcsp.config import DCSPSettings
from dcsp.methods.base import CueMethod, Words
from dcsp.methods.builtin.cues import BuiltinStage
from dcsp.methods.builtin.foreground_table import MAP, MASK, ForegroundStage
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.tables.schemas import SALIENCY
from dcsp.training.stage import TrainStage


class BuiltinMethod(CueMethod):
    """Foreground and its mask, then attention shared out inside of it; later phases adapt."""

    words = Words(maps=("foreground", "its mask"))
    schemas = MappingProxyType({"foreground": SALIENCY})

    def saliency(self, make: StepMaker) -> SaliencySource:
        """The foreground mask, which the losses on saliency and priors learn from."""
        return SaliencySource(ForegroundStage(make.config), MASK)

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """The table of foreground."""
        yield Step(Role.MAPS, "foreground", ForegroundStage(make.config))

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """The multi-class mask."""
        own = make.config.cues.builtin
        settings = DCSPSettings(
            attention=own.attention, saliency_pass=MASK if own.mask else MAP, crf=own.crf
        )
        foreground = ForegroundStage(make.config).key
        yield make.cues(BuiltinStage(make.config, settings, fcan.key, foreground))
