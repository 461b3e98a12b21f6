"""What cue methods share: the steps that several make, and trainings from their recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from dcsp.config import DCSPSettings, RunConfig, TrainSettings
from dcsp.corpus.sources.files import absolute
from dcsp.corrections.table import CorrectionStage
from dcsp.cues.adapt import AdaptStage
from dcsp.cues.dcsp import DCSPStage
from dcsp.cues.published import PublishedRule
from dcsp.cues.stage import CueStage
from dcsp.errors import ConfigError
from dcsp.inference.table import PredictionStage
from dcsp.methods.builtin.loss import PriorLoss
from dcsp.networks.weights import weights_digest
from dcsp.saliency.maps import MapStage
from dcsp.saliency.table import SaliencyStage
from dcsp.stages.stage import Stage, TableStage
from dcsp.stages.step import Role, Step
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.snapshot import TRAIN, Snapshot
from dcsp.training.recipe import Recipe, ScoreRecipe, TrainingInput
from dcsp.training.stage import TrainStage
from dcsp.trust.table import TrustStage


class SaliencySource(NamedTuple):
    """One map of a saliency table.

    Attributes:
        stage: Makes the table.
        number: k of S_k, from 1.
    """

    stage: TableStage
    number: int

    @property
    def learned(self) -> TrainingInput:
        """The map as losses on saliency learn from it."""
        return TrainingInput("saliency", self.stage.key, "maps", "saliency", self.number)


@dataclass(frozen=True)
class StepMaker:
    """Makes the steps of one run over one snapshot.

    Attributes:
        config: Of the run.
        snapshot: The corpus that networks learn from.
    """

    config: RunConfig
    snapshot: Snapshot

    @cached_property
    def corrections(self) -> CorrectionStage | None:
        """The table of corrections; None where the config names none."""
        files = self.config.corrections
        return CorrectionStage(files, self.config.corpus) if files else None

    def saliency_step(self) -> Step[TableStage]:
        """The step of :meth:`saliency`."""
        return Step(Role.MAPS, "saliency", self.saliency())

    def saliency(self) -> TableStage:
        """Hierarchical saliency (paper 4.2), or maps that somebody has computed before.

        Raises:
            ConfigError: No detector is configured.
        """
        settings = self.config.saliency
        if settings.maps:
            return MapStage(tuple(map(absolute, settings.maps)))
        if not settings.detectors:
            raise ConfigError(
                f"cues.method={self.config.cues.method} needs a saliency detector and "
                "saliency.detectors is empty: name one, or set cues.method=builtin, which needs "
                "none unless saliency_weight of fcan or joint, or cues.adapt.dcsp, asks for it."
            )
        return SaliencyStage(
            settings.detectors,
            settings.thresholds,
            tuple(weights_digest(card.model, card.sha256) for card in settings.detectors),
            self.config.corpus.max_pixels,
        )

    def algorithm_1(self, settings: DCSPSettings, network: StageKey, phase: int = 0) -> DCSPStage:
        """Cues of attention and saliency (paper 4.2).

        Args:
            settings: Of these cues.
            network: Key of the training of the network that attends.
            phase: From 0.
        """
        used = self.saliency().key if settings.saliency_pass else None
        return DCSPStage(self.config, settings, network, used, phase)

    def adapted(self, network: StageKey, phase: int) -> AdaptStage | DCSPStage:
        """Cues of a trained network itself (paper 4.3), or by Algorithm 1 in the FCAN's place.

        Args:
            network: Key of its training.
            phase: From 1.
        """
        rule = self.config.cues.adapt.dcsp
        if rule is None:
            return AdaptStage(self.config, network, phase)
        return self.algorithm_1(rule, network, phase)

    def predictions(
        self, network: StageKey, cues: StageKey, rule: DCSPSettings | None
    ) -> Iterator[Step[Stage]]:
        """Labels of every image (method 1.8), what they ask for, and how far to trust each.

        Args:
            network: Key of the last training.
            cues: Key of those that it learned from.
            rule: Algorithm 1 for images with given tags, if the cues have it.
        """
        predict, published = self.config.predict, None
        if predict.tags == "restrict":
            maps = self.saliency_step() if rule and rule.saliency_pass else None
            if maps:
                yield maps
            published = PublishedRule.of(self.config, rule, maps.stage.key if maps else None)
        corrections = self.corrections.key if self.corrections else None
        stage = PredictionStage.of(
            self.config, network.directory, rule=published, corrections=corrections
        )
        yield Step(Role.PREDICTIONS, "predictions", stage, splits=predict.splits)
        saliency = published.saliency if published else None
        classes = len(self.config.corpus.classes)
        trust = TrustStage.of(stage.key, cues, saliency, classes, corrections)
        yield Step(Role.TRUST, "trust", trust, splits=predict.splits)

    def cues(self, stage: CueStage, phase: int = 0) -> Step[CueStage]:
        """The step of the cues that a phase is trained on."""
        return Step(Role.CUES, f"cues_phase{phase}", stage, phase)

    def fcan(self, saliency: SaliencySource | None) -> Step[TrainStage]:
        """The training of the attention network (paper 4.1).

        Args:
            saliency: For losses that need it; others do not depend on it.
        """
        settings = self.config.fcan
        recipe = ScoreRecipe("fcan", "fcan", settings, extra=_extra(settings))
        return self.training(Role.FCAN, recipe, self._learned(recipe, saliency))

    def joint(
        self,
        phase: int,
        initial: TrainStage,
        cues: CueStage,
        selfcues: CueStage | None,
        saliency: SaliencySource | None,
    ) -> Step[TrainStage]:
        """The joint training of a phase (paper 4.3).

        Args:
            phase: From 0.
            initial: The training whose network it goes on with.
            cues: To learn from.
            selfcues: Cues by self-tags to learn from as well.
            saliency: For losses that need it; others do not depend on it.
        """
        settings = self.config.joint
        recipe = ScoreRecipe(f"joint_phase{phase}", "joint", settings, True, _extra(settings))
        tables = [TrainingInput("cues", cues.key, "label", "cue")]
        if selfcues:
            tables.append(TrainingInput("selfcues", selfcues.key, "label", "cue"))
        return self.training(
            Role.JOINT, recipe, (*tables, *self._learned(recipe, saliency)), initial.key, phase
        )

    def training(
        self,
        role: Role,
        recipe: Recipe,
        tables: tuple[TrainingInput, ...],
        initial: StageKey | None = None,
        phase: int | None = None,
    ) -> Step[TrainStage]:
        """A training by any recipe.

        Args:
            role: Of the step.
            recipe: What it builds and minimises; it names the step.
            tables: What it learns from beside images and tags; corrections go before any cues.
            initial: Key of a training to go on from; None: the backbone's weights alone.
            phase: Of the step.
        """
        if self.corrections and any(table.sample == "cue" for table in tables):
            pinned = TrainingInput("corrections", self.corrections.key, "train", "cue")
            tables = (pinned, *tables)
        stage = TrainStage(
            replace(recipe, settings=recipe.settings.for_images(self.snapshot.rows([TRAIN]))),
            self.config.network,
            self.snapshot.classes,
            self.config.precision,
            self.config.seed,
            self.snapshot.learned_from([TRAIN]),
            tables,
            initial,
        )
        return Step(role, recipe.title, stage, phase)

    def _learned(
        self, recipe: Recipe, saliency: SaliencySource | None
    ) -> tuple[TrainingInput, ...]:
        """The saliency that a training's losses need, if any does."""
        if not recipe.settings.needs_saliency:
            return ()
        if saliency is None:
            raise ConfigError(
                f"{recipe.block} asks for saliency (saliency_weight, prior_weight), of which "
                f"cues.method={self.config.cues.method} has none: set both to 0."
            )
        return (saliency.learned,)


def _extra(settings: TrainSettings) -> tuple[PriorLoss, ...]:
    if settings.prior_weight == 0:
        return ()
    return (PriorLoss(settings.prior_weight, settings.prior_sharpness),)
