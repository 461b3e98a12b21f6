"""Stages as the jobs run them, on a Ray cluster of this machine, timed part by part."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property

from dcsp.config import DetectorSettings, FCANSettings, PredictSettings, RunConfig, TrainSettings
from dcsp.progress import Progress
from dcsp.run.plan import Plan
from dcsp.stages.stage import TableStage
from dcsp.store.store import Store
from dcsp.tables.snapshot import Part
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank, rebatch
from jobs import _cluster
from jobs._chain import Chain
from tests.bench.inputs import NETWORK, Inputs

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""What the peers' networks may use; the jobs use what they find."""
IMAGES = 416
"""How many a stage is measured on, where there are as many."""
_RIM = 1 / 6
"""Of the items at the start and at the end of a stage, which are not counted."""


class Marks(Progress):
    """A progress that remembers when how much was done."""

    def __init__(self, title: str, total: int) -> None:
        super().__init__(title, total)
        self.marks: list[tuple[float, int]] = [(time.perf_counter(), 0)]

    def _reach(self, done: int, note: str) -> None:
        super()._reach(done, note)
        self.marks.append((time.perf_counter(), done))

    def seconds_each(self, rim: float) -> float:
        """Seconds an item from when a share ``rim`` was done until as much was left.

        As much work is under way at the one as at the other, so that neither start-up nor the work
        that the first parts have in common counts for or against the stage. Where no two marks are
        left, start-up counts as well: such figures are not to be reported.
        """
        total = self.marks[-1][1]
        done = [mark for mark in self.marks if mark[1]]
        inner = [mark for mark in done if rim * total <= mark[1] <= (1 - rim) * total]
        used = inner if len(inner) > 1 else [self.marks[0], done[-1]]
        (start, before), (stop, after) = used[0], used[-1]
        return (stop - start) / (after - before)

    @property
    def start_up(self) -> float:
        """Seconds until something was done."""
        return next(when for when, done in self.marks if done) - self.marks[0][0]


@dataclass(frozen=True)
class Measured:
    """One stage.

    Attributes:
        seconds_each: Seconds an image, or a step, at steady state.
        start_up: Seconds until the first was done.
        items: How many were done.
    """

    seconds_each: float
    start_up: float
    items: int


class Stages:
    """The stages of one run over the bench's images, each measured when a row first asks for it.

    The networks are as a run's: two steps of training stand for all, since speed does not depend on
    what weights say.

    Args:
        inputs: The images.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self.settings = TrainSettings(
            steps=inputs.pick(8, 60), batch=inputs.pick(2, 10), crop=inputs.pick(97, 321)
        )
        self.config = RunConfig(
            store=str(inputs.directory / "stages"),
            name="bench",
            corpus=inputs.settings.model_copy(update={"part_rows": inputs.pick(4, _part_rows())}),
            network=NETWORK,
            fcan=FCANSettings(steps=2, batch=2, crop=97),
            joint=self.settings,
            predict=PredictSettings(crf=False, splits=("train", "val")),
        )
        self.store = Store(self.config.store)

    @cached_property
    def plan(self) -> Plan:
        """The run, with a corpus and the networks that mining and predicting need."""
        with chain(self.config) as ready:
            plan = ready.plan()
        for title in ("fcan", "joint_phase1"):
            stage = plan.step(title).stage
            assert isinstance(stage, TrainStage)
            settings = FCANSettings(steps=2, batch=2, crop=97)
            quick = replace(stage.recipe, settings=settings, learns_cues=False)
            free = replace(stage, recipe=quick, initial=None, tables=())
            part, trainer = self.parts(plan)[0], free.trainer(self.store, "cpu")
            for piece in free.pieces([part], Rank(), 0)[:1]:
                trainer.step(next(rebatch([free.read(self.store, piece)], settings.batch)))
            stage.save(self.store, trainer.trained_network(), free.log())
        return plan

    def parts(self, plan: Plan | None = None) -> list[Part]:
        """The parts of both splits that are measured, at least 400 images where there are."""
        parts: list[Part] = []
        for part in (plan or self.plan).snapshot.parts:
            if sum(p.rows for p in parts) < self._inputs.pick(24, IMAGES):
                parts.append(Part(part.name, part.rows))
        return parts

    @property
    def detector(self) -> DetectorSettings:
        """The detector's card."""
        (detector,) = self.config.saliency.detectors
        return detector

    @cached_property
    def saliency(self) -> Measured:
        """Hierarchical saliency."""
        return self._map("saliency")

    @cached_property
    def cues(self) -> Measured:
        """Attention and Algorithm 1."""
        _ = self.saliency
        return self._map("cues_phase0")

    @cached_property
    def predictions(self) -> Measured:
        """Labels over three scales, without CRF."""
        return self._map("predictions")

    @cached_property
    def training(self) -> Measured:
        """The joint step, on the cues."""
        _ = self.cues
        stage = self.plan.step("joint_phase0").stage
        assert isinstance(stage, TrainStage)
        known = self.store.parts(stage.tables[0].key.directory)
        parts = [part for part in self.parts() if part.name in known]
        marks = Marks(stage.title, stage.settings.steps * stage.settings.batch)
        with chain(self.config) as ready, marks:
            ready.executor.training(self.store, stage, parts, marks)
        each = marks.seconds_each(_RIM) * stage.settings.batch
        return Measured(each, marks.start_up, stage.settings.steps)

    def _map(self, title: str) -> Measured:
        """Do a stage as a job does."""
        stage = self.plan.step(title).stage
        assert isinstance(stage, TableStage)
        parts = self.parts()
        images = sum(part.rows for part in parts)
        with chain(self.config) as ready, Marks(title, images) as marks:
            ready.executor.parts(self.store, stage, parts, marks)
        return Measured(marks.seconds_each(_RIM), marks.start_up, images)


def _part_rows() -> int:
    """Rows a part, so that far more parts are to be done than this machine does at once."""
    return max(1, min(16, IMAGES // (8 * CORES)))


@cache
def stages_of(inputs: Inputs) -> Stages:
    """The stages over some images, the same for every row that asks."""
    return Stages(inputs)


@contextmanager
def chain(config: RunConfig) -> Iterator[Chain]:
    """A chain whose cluster ends with it."""
    try:
        yield Chain(config)
    finally:
        _cluster.disconnect()
