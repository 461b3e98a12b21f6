"""MCOF (Wang et al. 2018): superpixels and the network label each other in rounds."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.config import RunConfig
from dcsp.methods.base import CueMethod
from dcsp.methods.mcof.cues import RegionStage
from dcsp.methods.mcof.superpixel_table import SuperpixelStage
from dcsp.methods.shared import SaliencySource, Workshop
from dcsp.stages.stage import PartMap
from dcsp.stages.step import TRAIN, Step
from dcsp.training.stage import TrainStage


class MCOFMethod(CueMethod):
    """Seeds → RegionNet → labels of superpixels → the network, whose labels are the next seeds."""

    def rounds(self, config: RunConfig) -> int:
        """One less than MCOF counts: its first round is phase 0."""
        return config.cues.mcof.rounds - 1

    def saliency(self, shop: Workshop) -> SaliencySource:
        """S_K."""
        return SaliencySource(shop.saliency(), shop.config.saliency.passes)

    def before_fcan(self, shop: Workshop) -> Iterator[Step]:
        """Hierarchical saliency."""
        yield shop.saliency_step()

    def first(self, shop: Workshop) -> Iterator[Step]:
        """Superpixels, seeds from attention, RegionNet, its cues refined by saliency."""
        settings = shop.config.cues.mcof.seeds
        yield Step("superpixels", self._superpixels(shop), TRAIN, needs_snapshot=False)
        yield from self._round(shop, 0, shop.algorithm_1(settings, self.fcan(shop).stage.key))

    def following(self, shop: Workshop, phase: int, network: TrainStage) -> Iterator[Step]:
        """The network's own labels are the seeds."""
        yield from self._round(shop, phase, shop.adapted(network.key, phase))

    def _superpixels(self, shop: Workshop) -> SuperpixelStage:
        return SuperpixelStage(shop.config)

    def _round(self, shop: Workshop, phase: int, seeds: PartMap) -> Iterator[Step]:
        settings, regions = shop.config.cues.mcof, self._superpixels(shop)
        yield Step(f"cues_seeds{phase}", seeds, TRAIN)
        training = shop.training(
            f"regions_phase{phase}",
            settings.train,
            block="cues.mcof.train",
            learns="region",
            cues=seeds,
            regions=regions,
            min_share=settings.min_share,
        )
        yield training
        source = self.saliency(shop) if phase < settings.refined_rounds else None
        cues = RegionStage(
            shop.config,
            training.stage.key,
            regions.key,
            phase,
            source.stage.key if source else None,
            source.number if source else 1,
        )
        yield Step(f"cues_phase{phase}", cues, TRAIN)
