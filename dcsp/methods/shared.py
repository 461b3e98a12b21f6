"""What every cue method may use: the steps that methods share, and trainings with fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dcsp.config import DCSPSettings, RunConfig, TrainSettings
from dcsp.cues.adapt import AdaptStage
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import ConfigError
from dcsp.networks.weights import backbone_digest, weights_digest
from dcsp.saliency.table import SaliencyStage
from dcsp.stages.stage import PartMap
from dcsp.stages.step import TRAIN, Step
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.snapshot import Snapshot
from dcsp.training.stage import TrainStage

TRAIN_VERSION = 1
SPEED_ALONE = {"checkpoint_every"}
"""Training settings that do not decide the result."""
WEIGHTS_ALONE = {"weights", "weights_sha256"}
"""Network settings that say where a file lies; its digest decides the result."""


class SaliencySource(NamedTuple):
    """One map of a saliency table.

    Attributes:
        stage: Makes the table.
        number: k of S_k, from 1.
    """

    stage: PartMap
    number: int


@dataclass(frozen=True)
class Workshop:
    """Makes the steps of one run over one snapshot."""

    config: RunConfig
    snapshot: Snapshot

    def saliency_step(self) -> Step:
        """The step of :meth:`saliency`."""
        return Step("saliency", self.saliency(), TRAIN, needs_snapshot=False)

    def saliency(self) -> SaliencyStage:
        """Hierarchical saliency (paper 4.2).

        Raises:
            ConfigError: No detector is configured.
        """
        detector = self.config.saliency.detector
        if detector is None:
            raise ConfigError(
                f"cues.method={self.config.cues.method} needs a saliency detector and "
                "saliency.detector is null: name one, or set cues.method=builtin, which needs none "
                "unless saliency_weight of fcan or joint, or cues.adapt.dcsp, asks for it."
            )
        return SaliencyStage(
            detector,
            self.config.saliency.thresholds,
            weights_digest(detector.model, detector.sha256),
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

    def training(
        self,
        title: str,
        settings: TrainSettings,
        *,
        block: str,
        learns: Literal["scores", "affinity", "region"] = "scores",
        initial: TrainStage | None = None,
        cues: PartMap | None = None,
        selfcues: PartMap | None = None,
        saliency: SaliencySource | None = None,
        regions: PartMap | None = None,
        radius: int | None = None,
        min_share: float | None = None,
    ) -> Step:
        """A training with the fingerprint of all that decides its checkpoint.

        Args:
            title: Of the step, such as ``"joint_phase0"``.
            settings: Steps, batch, learning rates.
            block: Name of the settings' block, for messages.
            learns: What is learned; see :class:`dcsp.training.stage.TrainStage`.
            initial: Training to go on from; left out: the backbone's weights alone.
            cues: Cue table to learn from.
            selfcues: Cues by self-tags to learn from as well.
            saliency: Saliency for the losses that need it; others do not depend on it.
            regions: Table of superpixels to learn from.
            radius: Of pairs of cells, for affinities.
            min_share: Share of a superpixel that its label must cover, for superpixels.
        """
        source = saliency if settings.needs_saliency else None
        inputs = {"corpus": self.snapshot.learned_from(list(TRAIN))}
        if initial:
            inputs["initial"] = initial.key.fingerprint
        for name, table in (("cues", cues), ("selfcues", selfcues), ("regions", regions)):
            if table:
                inputs[name] = table.key.fingerprint
        if source:
            inputs["saliency"] = source.stage.key.fingerprint
        network = self.config.network
        key = StageKey(
            title,
            TRAIN_VERSION,
            settings={
                "train": settings.model_dump(mode="json", exclude=SPEED_ALONE),
                "network": network.model_dump(mode="json", exclude=WEIGHTS_ALONE),
                "precision": self.config.precision.model_dump(mode="json"),
                **({"saliency_pass": source.number} if source else {}),
                **({"radius": radius} if radius else {}),
                **({"min_share": min_share} if min_share is not None else {}),
            },
            inputs=inputs,
            weights={} if initial else {"backbone": backbone_digest(network)},
            seed=self.config.seed,
            home="checkpoints",
        )
        stage = TrainStage(
            title=title,
            learns=learns,
            block=block,
            key=key,
            network=network,
            classes=self.snapshot.classes,
            settings=settings,
            precision=self.config.precision,
            seed=self.config.seed,
            initial=initial.key.directory if initial else None,
            cues=cues.key.directory if cues else None,
            selfcues=selfcues.key.directory if selfcues else None,
            saliency=source.stage.key.directory if source else None,
            saliency_pass=source.number if source else 1,
            regions=regions.key.directory if regions else None,
            radius=radius,
            min_share=min_share,
        )
        return Step(title, stage, TRAIN)
