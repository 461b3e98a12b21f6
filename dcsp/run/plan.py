"""The chain of stages that a config asks for, each with the fingerprint that decides its output.

FCAN → cues phase 0 → joint → cues phase 1 → joint → … → predictions, with what the cue method needs
in between; evaluation and report belong to the run. Nothing is computed here: a plan says what
would be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from dcsp.config import RunConfig
from dcsp.corrections.files import pinned
from dcsp.corrections.table import Told
from dcsp.cues.stage import CueStage
from dcsp.errors import ConfigError, CorpusError
from dcsp.methods.base import CueMethod
from dcsp.methods.registry import method_of
from dcsp.methods.selftags import selfcue_steps, selftag_steps
from dcsp.methods.shared import StepMaker
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import rejected_file
from dcsp.tables.snapshot import TRAIN, CorpusPart, Part, Snapshot
from dcsp.training.stage import TrainStage

EVALUATION_VERSION = 3
FIRST_PASS_VERSION = 2
"""Of runs whose start came of saliency: since 2 one pass of the detector is measured on it."""


@dataclass(frozen=True)
class Plan:
    """Every step of a run over one snapshot, in order.

    Attributes:
        config: The run's settings.
        snapshot: The corpus that is mined and labelled.
        made: In order, each with the splits that it was made for.
        learned_from: The corpus that networks are trained on, where that is an earlier one.
    """

    config: RunConfig
    snapshot: Snapshot
    made: tuple[Step[Stage], ...]
    learned_from: Snapshot | None = None

    @cached_property
    def steps(self) -> tuple[Step[Stage], ...]:
        """In order; a table that labels are made with has every split that is labelled."""
        return tuple(_for_labels(self.made))

    def __iter__(self) -> Iterator[Step[Stage]]:
        return iter(self.steps)

    def of(self, *roles: Role) -> list[Step[Stage]]:
        """The steps of some roles, in order."""
        return [step for step in self.steps if step.role in roles]

    def step(self, title: str) -> Step[Stage]:
        """The step that a person names by its title.

        Raises:
            StopIteration: There is none.
        """
        return next(step for step in self.steps if step.title == title)

    @property
    def learned(self) -> Snapshot:
        """The corpus that networks are trained on."""
        return self.learned_from or self.snapshot

    @property
    def trainings(self) -> list[Step[TrainStage]]:
        """The trainings, in order."""
        return [cast(Step[TrainStage], step) for step in self.steps if step.stage.learns]

    def parts(self, step: Step[Stage]) -> list[Part]:
        """The parts that a step works on."""
        return step.parts(self.learned if step.stage.learns else self.snapshot)

    def is_done(self, store: Store, step: Step[Stage]) -> bool:
        """Whether the output of a step is complete in the store."""
        return step.stage.is_done(store, self.parts(step))

    def left(self, store: Store, step: Step[Stage]) -> int:
        """Images of a step still to do; of a training, those of all its steps."""
        return step.stage.left(store, self.parts(step))

    def reads(self, step: Step[Stage]) -> list[Step[Stage]]:
        """The steps whose output a step reads, in order."""
        return self._making(step.reads)

    def behind(self, step: Step[Stage]) -> list[Step[Stage]]:
        """A step, and all that its output was made from, in order."""
        needed = {step.stage.key.fingerprint}
        for earlier in reversed(self.steps):
            if earlier.stage.key.fingerprint in needed:
                needed |= earlier.reads
        return self._making(needed)

    def _making(self, fingerprints: set[str]) -> list[Step[Stage]]:
        """One step for each of some outputs, in order; of equal ones the last.

        A table that is compared may be the one that is trained on.
        """
        making = {step.stage.key.fingerprint: step for step in self.steps}
        return [making[fingerprint] for fingerprint in making if fingerprint in fingerprints]

    @property
    def cue_steps(self) -> list[Step[Stage]]:
        """The cue tables that are trained on, by phase."""
        return self.of(Role.CUES)

    @property
    def labelled(self) -> tuple[str, ...]:
        """The splits that are labelled; none of a plan that ends before that."""
        return next((step.splits for step in self.of(Role.PREDICTIONS)), ())

    @property
    def model(self) -> TrainStage | None:
        """The training whose network is published; None of a plan that ends before that."""
        return self.trainings[-1].stage if self.labelled else None

    def until(self, title: str) -> Plan:
        """The plan up to a cue table, which it ends with.

        Raises:
            ConfigError: No cue table that is trained on has the title.
        """
        titles = [step.title for step in self.cue_steps]
        if title not in titles:
            raise ConfigError(f"--until {title!r} is none of {', '.join(titles)}.")
        return self.first(self.steps.index(self.step(title)) + 1)

    def first(self, count: int) -> Plan:
        """The plan of its first steps alone."""
        return replace(self, made=self.made[:count])

    @property
    def run_id(self) -> str:
        """Name of the run: the same request over the same corpus has the same name."""
        corpus = self.config.corpus
        decided = {
            "evaluation": EVALUATION_VERSION,
            "snapshot": self.snapshot.fingerprint,
            "report": self.config.report.model_dump(mode="json"),
            "labelled": sorted(self.labelled),
            "steps": {step.title: step.stage.key.fingerprint for step in self.steps},
            **({"shown": len(corpus.classes)} if corpus.distractors else {}),
            **({"first_pass": FIRST_PASS_VERSION} if self._measures_a_start else {}),
        }
        return f"{self.config.name}-{digest(decided)[:12]}"

    @property
    def _measures_a_start(self) -> bool:
        """Whether cues that are made better came of hierarchical saliency."""
        starts = (step.stage for step in self.of(Role.START))
        return any(isinstance(stage, CueStage) and stage.first_pass() for stage in starts)


def build_plan(
    config: RunConfig,
    snapshot: Snapshot,
    learned: Snapshot | None = None,
    method: CueMethod | None = None,
) -> Plan:
    """Lay out the stages of a run.

    Args:
        config: The run's settings.
        snapshot: The corpus that is mined and labelled.
        learned: The corpus that networks are trained on; left out: the same.
        method: The cue method, where the one that the config names may not be registered here.

    Raises:
        ConfigError: Corrections are not where the config says.
        CorpusError: The snapshot has no image to learn from, or none with a tag.
        WeightsError: Named weights are unknown or are not there.
        ValueError: The method gives two different steps one title.
    """
    if not snapshot.of([TRAIN]):
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
    config = pinned(config)
    make = StepMaker(config, learned or snapshot)
    steps: dict[str, Step[Stage]] = {}
    for step in (*_corrections(make, snapshot), *_steps(make, method or method_of(config))):
        known = steps.setdefault(step.title, step)
        if known.stage.key.fingerprint != step.stage.key.fingerprint:
            raise ValueError(f"The cue method gives two different steps the title {step.title}.")
    return Plan(config, snapshot, tuple(steps.values()), learned)


def _for_labels(steps: Collection[Step[Stage]]) -> Iterator[Step[Stage]]:
    labels = [step for step in steps if step.role is Role.PREDICTIONS]
    for step in steps:
        readers = [r for r in labels if step.stage.key.fingerprint in r.reads]
        if step.stage.learns or not readers:
            yield step
        else:
            yield replace(step, splits=tuple(dict.fromkeys((*step.splits, *readers[0].splits))))


def draft_plan(config: RunConfig, lineage: str = "unknown") -> Plan:
    """The plan of a config before its corpus is known: what the corpus decides is provisional.

    Args:
        config: The run's settings.
        lineage: Plans of equal ones have equal fingerprints.

    Raises:
        WeightsError: Named weights are unknown or are not there.
    """
    part = CorpusPart(lineage, TRAIN, 0)
    return build_plan(config, Snapshot(config.corpus.learned, (part,)))


def _corrections(make: StepMaker, snapshot: Snapshot) -> Iterator[Step[Stage]]:
    if make.corrections:
        stage = replace(make.corrections, snapshot=snapshot.fingerprint)
        yield Step(Role.CORRECTIONS, "corrections", stage, prepare=Told(stage))


def _steps(make: StepMaker, method: CueMethod) -> Iterator[Step[Stage]]:
    """In their order; one that several ask for comes as often."""
    config = make.config
    saliency = method.saliency(make)
    yield from method.before_fcan(make)
    fcan = make.fcan(saliency)
    yield fcan
    use, selftags = config.selftags.use, None
    if use != "never":
        *_, tagging = steps = selftag_steps(make, fcan.stage.key)
        yield from steps
        selftags = tagging.stage.key
    network = fcan.stage
    last = method.rounds(config)
    for phase in range(last + 1):
        *before, cues = (
            method.following(make, phase, network) if phase else method.first(make, network)
        )
        stage = cues.stage
        assert isinstance(stage, CueStage) and cues.role is Role.CUES, "a phase ends with its cues"
        yield from before
        selfcues = None
        if selftags and (use == "train" or phase == last):
            found = list(selfcue_steps(make.cues(stage, phase), selftags))
            yield from found
            selfcues = found[-1].stage if use == "train" else None
        yield cues
        joint = make.joint(phase, network, stage, selfcues, saliency)
        yield joint
        network = joint.stage
    yield from make.predictions(network.key, stage.key, method.last_rule(config))
