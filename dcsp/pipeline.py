"""The chain of stages that a config asks for, each with the fingerprint that decides its output.

saliency → FCAN → cues phase 0 → joint → adapt: cues phase 1 → joint → … → predictions; evaluation
and report belong to the run. Nothing is computed here: a plan says what would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dcsp.config import RunConfig, TrainSettings
from dcsp.cues.adapt import AdaptStage
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import CorpusError
from dcsp.inference.table import PredictionStage
from dcsp.networks.weights import backbone_digest, weights_digest
from dcsp.saliency.table import SaliencyStage
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.mapping import Part, PartMap, manifest_file, pending_parts
from dcsp.tables.snapshot import Snapshot
from dcsp.tables.store import Store
from dcsp.training.stage import TrainStage, checkpoint_is_complete

TRAIN_VERSION = 1
EVALUATION_VERSION = 1
SPEED_ALONE = {"checkpoint_every"}
"""Training settings that do not decide the result."""
WEIGHTS_ALONE = {"weights", "weights_sha256"}
"""Network settings that say where a file lies; its digest decides the result."""


@dataclass(frozen=True)
class Step:
    """One stage of a plan and the parts of the corpus it works on.

    Attributes:
        title: Name in logs, metrics and ``--until``, such as ``"cues_phase0"``.
        stage: What to do.
        splits: Splits of the corpus it reads.
        needs_snapshot: Whether its fingerprint depends on what the corpus holds.
    """

    title: str
    stage: PartMap | TrainStage
    splits: tuple[str, ...]
    needs_snapshot: bool = True

    def parts(self, snapshot: Snapshot) -> list[Part]:
        """The parts it works on."""
        return snapshot.of(self.splits)

    def scope(self, snapshot: Snapshot) -> str:
        """Names the parts that a table must have to be complete for this snapshot."""
        return digest([part.name for part in self.parts(snapshot)])

    def is_done(self, store: Store, snapshot: Snapshot) -> bool:
        """Whether its output is complete in the store, no part having been removed since."""
        if isinstance(self.stage, TrainStage):
            return checkpoint_is_complete(store, self.stage.key.directory)
        manifest = manifest_file(self.stage.key, self.scope(snapshot))
        return store.exists(manifest) and not self.rows_left(store, snapshot)

    def rows_left(self, store: Store, snapshot: Snapshot) -> int:
        """Images still to do; for a training that has not ended, those of all its steps."""
        if not isinstance(self.stage, TrainStage):
            return sum(p.rows for p in pending_parts(store, self.stage, self.parts(snapshot)))
        if checkpoint_is_complete(store, self.stage.key.directory):
            return 0
        return self.stage.settings.steps * self.stage.settings.batch


@dataclass(frozen=True)
class Plan:
    """Every step of a run over one snapshot, in order."""

    config: RunConfig
    snapshot: Snapshot
    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def step(self, title: str) -> Step:
        """The step of that title."""
        return next(step for step in self.steps if step.title == title)

    @property
    def cue_steps(self) -> list[Step]:
        """The cue tables that are trained on, by phase."""
        phases = range(self.config.cues.adapt.rounds + 1)
        return [self.step(f"cues_phase{phase}") for phase in phases]

    @property
    def model(self) -> TrainStage:
        """The training whose network is published."""
        stage = self.step(f"joint_phase{self.config.cues.adapt.rounds}").stage
        assert isinstance(stage, TrainStage)
        return stage

    @property
    def run_id(self) -> str:
        """Name of the run: the same request over the same corpus has the same name."""
        decided = {
            "evaluation": EVALUATION_VERSION,
            "snapshot": self.snapshot.fingerprint,
            "report": self.config.report.model_dump(mode="json"),
            "labelled": sorted(self.config.predict.splits),
            "steps": {step.title: step.stage.key.fingerprint for step in self.steps},
        }
        return f"{self.config.name}-{digest(decided)[:12]}"


def build_plan(config: RunConfig, snapshot: Snapshot) -> Plan:
    """Lay out the stages of a run.

    Raises:
        CorpusError: The snapshot has no image to learn from.
        WeightsError: Named weights are unknown or are not there.
    """
    if not snapshot.of(["train"]):
        raise CorpusError(
            "The corpus has no images of the split 'train': nothing can be learned; check "
            "corpus.root, corpus.splits and dcsp rejected."
        )
    return Plan(config, snapshot, tuple(_steps(config, snapshot)))


def _steps(config: RunConfig, snapshot: Snapshot) -> Iterator[Step]:
    train = ("train",)
    detector = config.saliency.detector
    saliency = SaliencyStage(
        config.saliency,
        weights_digest(detector.model, detector.sha256),
        config.corpus.max_pixels,
    )
    yield Step("saliency", saliency, train, needs_snapshot=False)
    fcan = _train_stage(config, snapshot, "fcan", None, None, saliency)
    yield Step("fcan", fcan, train)
    for name, settings in config.cues.compare.items():
        compared = DCSPStage(config, settings, fcan.key, saliency.key)
        yield Step(f"cues_{name}", compared, train)
    cues: PartMap = DCSPStage(config, config.cues.dcsp, fcan.key, saliency.key)
    yield Step("cues_phase0", cues, train)
    network = _train_stage(config, snapshot, "joint_phase0", fcan, cues, saliency)
    yield Step("joint_phase0", network, train)
    for phase in range(1, config.cues.adapt.rounds + 1):
        cues = AdaptStage(config, network.key, phase)
        yield Step(f"cues_phase{phase}", cues, train)
        network = _train_stage(config, snapshot, f"joint_phase{phase}", network, cues, saliency)
        yield Step(f"joint_phase{phase}", network, train)
    predictions = PredictionStage(
        config.predict,
        config.precision,
        config.network.max_side,
        config.corpus.max_pixels,
        network.key,
    )
    yield Step("predictions", predictions, config.predict.splits)


def _train_stage(
    config: RunConfig,
    snapshot: Snapshot,
    title: str,
    initial: TrainStage | None,
    cues: PartMap | None,
    saliency: SaliencyStage,
) -> TrainStage:
    settings = config.joint if cues else config.fcan
    learns_saliency = settings.saliency_weight > 0
    inputs = {"corpus": snapshot.learned_from(["train"])}
    if initial:
        inputs["initial"] = initial.key.fingerprint
    if cues:
        inputs["cues"] = cues.key.fingerprint
    if learns_saliency:
        inputs["saliency"] = saliency.key.fingerprint
    key = StageKey(
        title,
        TRAIN_VERSION,
        settings={
            "train": _deciding(settings),
            "network": config.network.model_dump(mode="json", exclude=WEIGHTS_ALONE),
            "precision": config.precision.model_dump(mode="json"),
            **({"saliency_pass": config.cues.dcsp.saliency_pass} if learns_saliency else {}),
        },
        inputs=inputs,
        weights={} if initial else {"backbone": backbone_digest(config.network)},
        seed=config.seed,
        home="checkpoints",
    )
    return TrainStage(
        title=title,
        objective="joint" if cues else "fcan",
        key=key,
        network=config.network,
        classes=snapshot.classes,
        settings=settings,
        precision=config.precision,
        seed=config.seed,
        initial=initial.key.directory if initial else None,
        cues=cues.key.directory if cues else None,
        saliency=saliency.key.directory if learns_saliency else None,
        saliency_pass=config.cues.dcsp.saliency_pass,
    )


def _deciding(settings: TrainSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=SPEED_ALONE)
