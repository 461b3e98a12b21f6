"""The steps of the method; later phases adapt, as they do by default."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from dcsp.config import DCSPSettings
from dcsp.methods.base import CueMethod, Words
from dcsp.methods.shared import SaliencySource, StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.training.recipe import TrainingInput
from dcsp.training.stage import TrainStage
from tests.methods.fifth.cues import ContrastCues
from tests.methods.fifth.network import PixelRecipe
from tests.methods.fifth.table import CONTRAST, ContrastStage


class ContrastMethod(CueMethod):
    """Seeds of attention → helper network → its labels where there is contrast."""

    words = Words(later="Looking again")
    schemas = MappingProxyType({"contrast": CONTRAST})

    def saliency(self, make: StepMaker) -> SaliencySource:
        """S_K, for trainings with a loss on saliency."""
        return SaliencySource(make.saliency(), make.config.saliency.passes)

    def before_fcan(self, make: StepMaker) -> Iterator[Step[Stage]]:
        """Saliency."""
        yield make.saliency_step()

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """Seeds, the helper network, contrast, and the cues."""
        seeds = make.algorithm_1(
            DCSPSettings(saliency_pass=0, gamma_low=0.3, gamma_high=0.5), fcan.key
        )
        settings = make.config.cues.contrast.train  # type: ignore[attr-defined]
        recipe = PixelRecipe("pixel", "cues.contrast.train", settings)
        learned = TrainingInput("cues", seeds.key, "label", "cue")
        network = make.training(Role.HELPER, recipe, (learned,))
        contrast = ContrastStage(make.config)
        yield Step(Role.SEEDS, "cues_seeds", seeds)
        yield network
        yield Step(Role.TABLE, "contrast", contrast)
        yield make.cues(ContrastCues(make.config, network.stage.key, contrast.key))
