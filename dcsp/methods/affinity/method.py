"""AffinityNet (Ahn and Kwak 2018): a method of its own, and a refinement of others'."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.config import DCSPSettings, RunConfig
from dcsp.cues.evidence import EvidenceStage
from dcsp.methods.affinity.areas import AreasStage
from dcsp.methods.affinity.cues import AffinityStage
from dcsp.methods.base import CueMethod
from dcsp.methods.shared import SaliencySource, Workshop
from dcsp.stages.step import TRAIN, Step
from dcsp.training.stage import TrainStage


class AttentionMethod(CueMethod):
    """Attention alone: what AffinityNet starts from."""

    def saliency(self, shop: Workshop) -> SaliencySource | None:
        """None is needed; where a loss asks for it, S_K."""
        trained = (shop.config.fcan, shop.config.joint)
        if not any(settings.needs_saliency for settings in trained):
            return None
        return SaliencySource(shop.saliency(), shop.config.saliency.passes)

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """Saliency, where a loss asks for it."""
        if self.saliency(shop):
            yield shop.saliency_step()

    def first(self, shop: Workshop) -> Iterator[Step]:
        """Attention against a threshold."""
        own = shop.config.cues.affinity
        settings = DCSPSettings(
            attention=own.attention, saliency_pass=0, gamma_low=own.gamma, gamma_high=own.gamma
        )
        cues = shop.algorithm_1(settings, self.fcan(shop).stage.key)
        yield Step("cues_phase0", cues, TRAIN)


class AffinityMethod(CueMethod):
    """Phase 0 of another method, spread by a random walk over learned affinities.

    Args:
        start: The other method.
    """

    def __init__(self, start: CueMethod) -> None:
        self._start = start

    def rounds(self, config: RunConfig) -> int:
        """As the other method."""
        return self._start.rounds(config)

    def saliency(self, shop: Workshop) -> SaliencySource | None:
        """As the other method."""
        return self._start.saliency(shop)

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """As the other method."""
        return self._start.before_fcan(shop)

    def following(self, shop: Workshop, phase: int, network: TrainStage) -> Iterator[Step]:
        """As the other method."""
        return self._start.following(shop, phase, network)

    def first(self, shop: Workshop) -> Iterator[Step]:
        """The other method's cues, their confident areas, the affinity network, the walk."""
        *before, last = self._start.first(shop)
        yield from before
        start: EvidenceStage = last.stage  # type: ignore[assignment]
        areas = AreasStage(shop.config, start)
        settings = shop.config.cues.affinity
        training = shop.training(
            "affinity",
            settings.train,
            block="cues.affinity.train",
            learns="affinity",
            cues=areas,
            radius=settings.radius,
        )
        yield Step("cues_start", start, TRAIN)
        yield Step("cues_areas", areas, TRAIN)
        yield training
        yield Step("cues_phase0", AffinityStage(shop.config, start, training.stage.key), TRAIN)
