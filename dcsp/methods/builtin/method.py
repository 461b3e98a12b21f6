"""Built-in priors (Saleh et al. 2016): foreground from the backbone itself, no detector."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.config import DCSPSettings
from dcsp.methods.base import CueMethod
from dcsp.methods.builtin.cues import BuiltinStage
from dcsp.methods.builtin.foreground_table import MAP, MASK, ForegroundStage
from dcsp.methods.shared import SaliencySource, Workshop
from dcsp.stages.step import TRAIN, Step


class BuiltinMethod(CueMethod):
    """Foreground and its mask, then attention shared out inside of it; later phases adapt."""

    def saliency(self, shop: Workshop) -> SaliencySource:
        """The foreground mask, which the losses on saliency and priors learn from."""
        return SaliencySource(ForegroundStage(shop.config), MASK)

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """The table of foreground."""
        yield Step("foreground", ForegroundStage(shop.config), TRAIN, needs_snapshot=False)

    def first(self, shop: Workshop) -> Iterator[Step]:
        """The multi-class mask."""
        own = shop.config.cues.builtin
        settings = DCSPSettings(
            attention=own.attention, saliency_pass=MASK if own.mask else MAP, crf=own.crf
        )
        foreground = ForegroundStage(shop.config).key
        cues = BuiltinStage(shop.config, settings, self.fcan(shop).stage.key, foreground)
        yield Step("cues_phase0", cues, TRAIN)
