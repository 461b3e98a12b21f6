"""A probe: the stages of a run on 16 of its images, in one process, to learn what they will cost.

It works in a store of its own, which is gone afterwards; nothing of the run's store is written. Its
networks are all but untrained, so that only what they cost means anything.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from dcsp.capacity.pace import EVALUATION, INGEST, Pace
from dcsp.capacity.sample import Sample, empty_part, timed
from dcsp.config import RunConfig
from dcsp.errors import DcspError
from dcsp.evaluation.run import Evaluator
from dcsp.methods.base import CueMethod
from dcsp.networks.checkpoint import save_network
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import read_part
from dcsp.stages.stage import Device, Stage, TableStage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.snapshot import TRAIN, CorpusPart, Part, Snapshot
from dcsp.training.loop import Trainer
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank, rank_batch, rebatch

STEPS = 4
"""Most steps of a training that are timed, after one that is not."""
STEP_SECONDS = 15.0
"""No further step of a training is begun after so long."""


@dataclass(frozen=True)
class Worker:
    """What a probe stands for: one model actor, and one worker of a training.

    Attributes:
        device: A torch device name.
        training_threads: CPUs of a training worker.
        training_workers: How many share a batch.
    """

    device: str = "cpu"
    training_threads: float = 1.0
    training_workers: int = 1


@dataclass
class ProbeResult:
    """What a probe found.

    Attributes:
        images: How many it looked at.
        paces: Title of a stage → what it costs.
        seconds: How long it took.
        trouble: What went wrong, where something did; the stages from there on have no pace.
        trainings: Those that were measured.
    """

    images: int = 0
    paces: dict[str, Pace] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""
    trainings: list[tuple[TrainStage, Pace]] = field(default_factory=list)

    def like(self, stage: TrainStage) -> Pace | None:
        """Of a training that costs as much, such as that of another phase."""
        key = stage.key.as_dict()
        return next((pace for other, pace in self.trainings if other.costs_as(key)), None)


@dataclass(frozen=True)
class Probe:
    """Runs the stages of a config up to the last one that is wanted; picklable.

    Attributes:
        config: Of the run.
        wanted: Titles of the stages to learn of.
        worker: What it stands for.
        method: The cue method; left out: the one that the config names, registered where it runs.
    """

    config: RunConfig
    wanted: frozenset[str]
    worker: Worker = Worker()
    method: CueMethod | None = None

    def __call__(self, sample: Sample) -> ProbeResult:
        """Probe on a sample; the user's mistakes are told in what is returned."""
        found = ProbeResult()
        started = time.monotonic()
        threads = torch.get_num_threads()
        try:
            with tempfile.TemporaryDirectory(prefix="dcsp-probe-") as folder:
                self._run(Store(folder), sample, found)
        except DcspError as error:
            found.trouble = str(error)
        finally:
            torch.set_num_threads(threads)
        found.seconds = time.monotonic() - started
        return found

    def _run(self, scratch: Store, sample: Sample, found: ProbeResult) -> None:
        part, ingest = sample(scratch)
        if ingest:
            found.paces[INGEST] = ingest
        if part is None:
            found.trouble = "no image of the sample can be used"
            return
        found.images = part.rows
        snapshot = Snapshot(self.config.corpus.learned, (part,))
        plan = build_plan(self._config, snapshot, method=self.method)
        last = max((n for n, step in enumerate(plan) if step.title in self.wanted), default=-1)
        for step in plan.steps[: last + 1]:
            if step.prepare:
                step.prepare(scratch)
            pace = self._pace(scratch, step, Part(part.name, part.rows), found)
            if step.title in self.wanted:
                found.paces[step.title] = pace
        if EVALUATION in self.wanted and part.truth and last + 1 == len(plan.steps):
            found.paces[EVALUATION] = self._evaluation(scratch, plan, part)

    @property
    def _config(self) -> RunConfig:
        """The settings for training images alone, which the sample is of."""
        selftags = self.config.selftags.model_copy(update={"calibrate": TRAIN})
        return self.config.model_copy(update={"selftags": selftags})

    def _pace(self, store: Store, step: Step[Stage], part: Part, found: ProbeResult) -> Pace:
        if not step.stage.learns:
            torch.set_num_threads(1)
            table = cast(TableStage, step.stage)
            return measure_parts(store, table, part, Device(self.worker.device))
        training = cast(TrainStage, step.stage)
        torch.set_num_threads(max(1, int(self.worker.training_threads)))
        alike = found.like(training)
        if step.title in self.wanted and alike is None:
            pace = measure_training(store, training, part, self.worker)
            found.trainings.append((training, pace))
            return pace
        save_network(store, training.key.directory, training.build(store))  # the next need one
        return alike or Pace("probe", 0.0, 0.0, 0.0, 0.0)

    def _evaluation(self, store: Store, plan: Plan, part: CorpusPart) -> Pace:
        _, seconds = timed(lambda: Evaluator(store, plan)(part))
        return Pace("probe", 0.0, 0.0, seconds / part.rows, 0.0)


def measure_parts(store: Store, stage: TableStage, part: Part, device: Device) -> Pace:
    """What a table costs that is made image by image; the part's table is there afterwards."""
    _forget_peak()
    model, start = timed(lambda: stage.load(store, device))
    rows, reading = timed(lambda: read_part(store, stage.inputs, part.name))
    _, first = timed(lambda: stage.finish(model(rows.slice(0, 1))))  # with what happens once
    raw, seconds = timed(lambda: model(rows))
    finished, finishing = timed(lambda: stage.finish(raw))
    done, writing = timed(lambda: stage.write(store, part, finished))
    empty = empty_part(store, stage.schema)
    return Pace(
        "probe",
        start + first,
        seconds / part.rows,
        (reading + finishing + writing) / part.rows,
        (done.bytes - empty) / part.rows,
        _peak(),
        empty,
    )


def measure_training(store: Store, stage: TrainStage, part: Part, worker: Worker) -> Pace:
    """What a training costs; its network is there afterwards."""
    batch = rank_batch(stage.settings.batch, 0, worker.training_workers)
    settings = stage.settings.model_copy(update={"steps": STEPS + 1, "batch": batch})
    short = replace(stage, recipe=replace(stage.recipe, settings=settings))
    _forget_peak()
    begun = time.monotonic()
    trainer, start = timed(lambda: short.trainer(store, worker.device))
    pieces = short.pieces([part], Rank(), 0)
    batches = rebatch((short.read(store, piece) for piece in pieces), batch)
    reading: list[float] = []
    stepping: list[float] = []
    for _ in range(STEPS + 1):
        samples, seconds = timed(lambda: next(batches))
        reading.append(seconds)
        stepping.append(timed(partial(_step, trainer, samples))[1])
        if len(stepping) > 1 and time.monotonic() - begun > STEP_SECONDS:
            break
    size = save_network(store, stage.key.directory, trainer.trained_network())
    once = start + reading[0] + stepping[0]
    step, read = (float(np.mean(seconds[1:])) for seconds in (stepping, reading))
    return Pace("probe", once, step, read, size, _peak())


def _step(trainer: Trainer, samples: dict[str, NDArray[Any]]) -> None:
    trainer.step(samples)
    trainer.flush()  # on a GPU a step has ended only then


def _forget_peak() -> None:
    with suppress(OSError):  # only Linux can
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int | None:
    """Most bytes this process had since that; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return found[0] if found else None
