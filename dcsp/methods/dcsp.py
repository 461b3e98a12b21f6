"""DCSP: hierarchical saliency × attention (Chaudhry, Dokania, Torr 2017)."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.methods.base import CueMethod
from dcsp.methods.shared import SaliencySource, Workshop
from dcsp.stages.step import TRAIN, Step


class DCSPMethod(CueMethod):
    """Algorithm 1 of the paper; later phases adapt."""

    def saliency(self, shop: Workshop) -> SaliencySource:
        """S_k of the settings; S_K where the cues use none."""
        number = shop.config.cues.dcsp.saliency_pass or shop.config.saliency.passes
        return SaliencySource(shop.saliency(), number)

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """Hierarchical saliency."""
        yield shop.saliency_step()

    def first(self, shop: Workshop) -> Iterator[Step]:
        """The compared cue tables, then the one that is trained on."""
        cues, fcan = shop.config.cues, self.fcan(shop).stage
        for name, settings in (*cues.compare.items(), ("phase0", cues.dcsp)):
            yield Step(f"cues_{name}", shop.algorithm_1(settings, fcan.key), TRAIN)
