"""The chain of stages that a config asks for, each with the fingerprint that decides its output.

FCAN → cues phase 0 → joint → cues phase 1 → joint → … → predictions, with what the cue method needs
in between; evaluation and report belong to the run. Nothing is computed here: a plan says what
would be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dcsp.config import RunConfig
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import ConfigError, CorpusError
from dcsp.inference.table import PredictionStage
from dcsp.methods.registry import method_of
from dcsp.methods.selftags import selfcue_steps, selftag_steps
from dcsp.methods.shared import Workshop
from dcsp.stages.stage import PartMap
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.layout import rejected_file
from dcsp.tables.snapshot import Part, Snapshot
from dcsp.training.stage import TrainStage

EVALUATION_VERSION = 1
PREDICTIONS = "predictions"
"""Title of the last step."""
_PHASE = re.compile(r"cues_phase\d+")


@dataclass(frozen=True)
class Plan:
    """Every step of a run over one snapshot, in order.

    Attributes:
        config: The run's settings.
        snapshot: The corpus that is mined and labelled.
        steps: In order.
        learned_from: The corpus that networks are trained on, where that is an earlier one.
    """

    config: RunConfig
    snapshot: Snapshot
    steps: tuple[Step, ...]
    learned_from: Snapshot | None = None

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def step(self, title: str) -> Step:
        """The step of that title."""
        return next(step for step in self.steps if step.title == title)

    @property
    def learned(self) -> Snapshot:
        """The corpus that networks are trained on."""
        return self.learned_from or self.snapshot

    def parts(self, step: Step) -> list[Part]:
        """The parts that a step works on."""
        is_training = isinstance(step.stage, TrainStage)
        return step.parts(self.learned if is_training else self.snapshot)

    def before(self, step: Step) -> tuple[Step, ...]:
        """The steps before one, in order."""
        return self.steps[: self.steps.index(step)]

    @property
    def cue_steps(self) -> list[Step]:
        """The cue tables that are trained on, by phase."""
        return [step for step in self.steps if _PHASE.fullmatch(step.title)]

    @property
    def first_dcsp(self) -> Step | None:
        """The cues of phase 0, or those they start from, where saliency made them."""
        for step in self.steps:
            if step.title in ("cues_start", "cues_phase0") and type(step.stage) is DCSPStage:
                return step if step.stage.saliency else None
        return None

    @property
    def labelled(self) -> tuple[str, ...]:
        """The splits that are labelled; none of a plan that ends before that."""
        return next((step.splits for step in self.steps if step.title == PREDICTIONS), ())

    @property
    def model(self) -> TrainStage | None:
        """The training whose network is published; None of a plan that ends before that."""
        joint = [step.stage for step in self.steps if step.title.startswith("joint_phase")]
        stage = joint[-1] if self.labelled else None
        assert stage is None or isinstance(stage, TrainStage)
        return stage

    def until(self, title: str) -> Plan:
        """The plan up to a cue table, which it ends with.

        Raises:
            ConfigError: No cue table that is trained on has the title.
        """
        titles = [step.title for step in self.cue_steps]
        if title not in titles:
            raise ConfigError(f"--until {title!r} is none of {', '.join(titles)}.")
        return replace(self, steps=(*self.before(self.step(title)), self.step(title)))

    @property
    def run_id(self) -> str:
        """Name of the run: the same request over the same corpus has the same name."""
        decided = {
            "evaluation": EVALUATION_VERSION,
            "snapshot": self.snapshot.fingerprint,
            "report": self.config.report.model_dump(mode="json"),
            "labelled": sorted(self.labelled),
            "steps": {step.title: step.stage.key.fingerprint for step in self.steps},
        }
        return f"{self.config.name}-{digest(decided)[:12]}"


def build_plan(config: RunConfig, snapshot: Snapshot, learned: Snapshot | None = None) -> Plan:
    """Lay out the stages of a run.

    Args:
        config: The run's settings.
        snapshot: The corpus that is mined and labelled.
        learned: The corpus that networks are trained on; left out: the same.

    Raises:
        CorpusError: The snapshot has no image to learn from, or none with a tag.
        WeightsError: Named weights are unknown or are not there.
    """
    if not snapshot.of(["train"]):
        rejected = Store(config.store).path(rejected_file(snapshot.fingerprint))
        raise CorpusError(
            "The corpus has no images of the split 'train': nothing can be learned; check "
            f"corpus.root, corpus.splits and the table of what was rejected, {rejected}."
        )
    if snapshot.is_untagged:
        raise CorpusError(
            "No image of the split 'train' has a tag: nothing can be learned; give the corpus its "
            "tags (a folder: tags.csv in corpus.root, or corpus.tags=FILE)."
        )
    steps: dict[str, Step] = {}
    for step in _steps(config, learned or snapshot):
        steps.setdefault(step.title, step)
    return Plan(config, snapshot, tuple(steps.values()), learned)


def _steps(config: RunConfig, snapshot: Snapshot) -> Iterator[Step]:
    """In their order; one that several ask for comes as often."""
    shop, method = Workshop(config, snapshot), method_of(config.cues)
    yield from method.before_fcan(shop)
    fcan = method.fcan(shop)
    yield fcan
    use, selftags = config.selftags.use, None
    if use != "never":
        *_, tagging = steps = selftag_steps(shop, fcan.stage.key)
        yield from steps
        selftags = tagging.stage.key
    network = fcan.stage
    last = method.rounds(config)
    for phase in range(last + 1):
        assert isinstance(network, TrainStage)
        following = method.following(shop, phase, network) if phase else method.first(shop)
        *before, cues = following
        yield from before
        selfcues = None
        if selftags and (use == "train" or phase == last):
            *_, selfcues = found = list(selfcue_steps(cues, selftags))
            yield from found
        yield cues
        joint = shop.training(
            f"joint_phase{phase}",
            config.joint,
            block="joint",
            initial=network,
            cues=_table(cues),
            selfcues=_table(selfcues) if selfcues and use == "train" else None,
            saliency=method.saliency(shop),
        )
        yield joint
        network = joint.stage
    yield _predictions(config, network.key)


def _table(step: Step) -> PartMap:
    assert not isinstance(step.stage, TrainStage)
    return step.stage


def _predictions(config: RunConfig, network: StageKey) -> Step:
    stage = PredictionStage(
        config.predict,
        config.precision,
        config.network.max_side,
        config.corpus.max_pixels,
        network.directory,
    )
    return Step(PREDICTIONS, stage, config.predict.splits)
