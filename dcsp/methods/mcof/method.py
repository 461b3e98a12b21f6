"""MCOF (Wang et al. 2018): superpixels and the network label each other in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from dcsp.config import RunConfig
from dcsp.cues.stage import CueStage
from dcsp.methods.base import CueMethod, Words
from dcsp.methods.mcof.cues import RegionStage
from dcsp.methods.mcof.recipe import RegionRecipe
from dcsp.methods.mcof.superpixel_table import SUPERPIXELS, SuperpixelStage
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.training.recipe import TrainingInput
from dcsp.training.stage import TrainStage


class MCOFMethod(CueMethod):
    """Seeds → RegionNet → labels of superpixels → the network, whose labels are the next seeds."""

    words = Words(later="More rounds of RegionNet and network", advice="cues.mcof.rounds=1")
    schemas = MappingProxyType({"superpixels": SUPERPIXELS})

    def rounds(self, config: RunConfig) -> int:
        """One less than MCOF counts: its first round is phase 0."""
        return config.cues.mcof.rounds - 1

    def saliency(self, make: StepMaker) -> SaliencySource:
        """S_K."""
        return SaliencySource(make.saliency(), make.config.saliency.passes)

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """Hierarchical saliency."""
        yield make.saliency_step()

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """Superpixels, seeds from attention, RegionNet, its cues refined by saliency."""
        settings = make.config.cues.mcof.seeds
        yield Step(Role.TABLE, "superpixels", SuperpixelStage(make.config))
        yield from self._round(make, 0, make.algorithm_1(settings, fcan.key))

    def following(self, make: StepMaker, phase: int, network: TrainStage) -> Iterator[Step[Stage]]:
        """The network's own labels are the seeds."""
        yield from self._round(make, phase, make.adapted(network.key, phase))

    def _round(self, make: StepMaker, phase: int, seeds: CueStage) -> Iterator[Step[Stage]]:
        settings, regions = make.config.cues.mcof, SuperpixelStage(make.config)
        recipe = RegionRecipe(
            f"regions_phase{phase}", "cues.mcof.train", settings.train, settings.min_share
        )
        learned = (
            TrainingInput("cues", seeds.key, "label", "cue"),
            TrainingInput("regions", regions.key, "regions", "regions"),
        )
        network = make.training(Role.HELPER, recipe, learned, phase=phase)
        yield Step(Role.SEEDS, f"cues_seeds{phase}", seeds, phase)
        yield network
        source = self.saliency(make) if phase < settings.refined_rounds else None
        cues = RegionStage(
            make.config,
            network.stage.key,
            regions.key,
            phase,
            source.stage.key if source else None,
            source.number if source else 1,
        )
        yield make.cues(cues, phase)
