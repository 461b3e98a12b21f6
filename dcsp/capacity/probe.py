"""A probe: the stages of a run on 16 of its images, in one process, to learn what they will cost.

It works in a store of its own, which is gone afterwards; nothing of the run's store is written. Its
networks are all but untrained, so that only what they cost means anything.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dcsp.capacity.pace import EVALUATION, INGEST, Pace
from dcsp.config import RunConfig
from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.listing import Listing
from dcsp.corpus.pack import Packer, part_name
from dcsp.corpus.sources.base import SourceRow
from dcsp.errors import DcspError
from dcsp.evaluation.run import Evaluator
from dcsp.networks.checkpoint import save_network
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import read_part
from dcsp.stages.stage import Device, Stage, TableStage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, TRUTH_DIRECTORY, part_file
from dcsp.tables.schemas import CORPUS
from dcsp.tables.snapshot import TRAIN, CorpusPart, Part, Snapshot
from dcsp.training.loop import Trainer
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank, rank_batch, rebatch

IMAGES = 16
"""How many images a probe looks at."""
STEPS = 4
"""Most steps of a training that are timed, after one that is not."""
STEP_SECONDS = 15.0
"""No further step of a training is begun after so long."""

Result = TypeVar("Result")


class Sample(Protocol):
    """Puts a few images of a corpus into another store; picklable."""

    def __call__(self, scratch: Store) -> tuple[CorpusPart | None, Pace | None]:
        """The part they became, none where all are rejected, and what ingesting cost."""
        ...


@dataclass(frozen=True)
class StoredSample:
    """Images of the first parts of a snapshot, evenly spread.

    Attributes:
        store: Of the corpus.
        parts: Training parts in order, with enough images.
    """

    store: Store
    parts: tuple[CorpusPart, ...]

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> StoredSample:
        """Of the first parts that together have enough training images."""
        taken: list[CorpusPart] = []
        for part in snapshot.parts:
            if part.split == TRAIN and sum(p.rows for p in taken) < IMAGES:
                taken.append(part)
        return cls(store, tuple(taken))

    def __call__(self, scratch: Store) -> tuple[CorpusPart, None]:
        """See :class:`Sample`."""
        files = [part_file(CORPUS_DIRECTORY, part.name) for part in self.parts]
        corpus = pa.concat_tables([self.store.read_table(file) for file in files])
        chosen = _spread(corpus.num_rows)
        table = corpus.take(chosen)
        name, truth = part_name(table), None
        scratch.write_table(part_file(CORPUS_DIRECTORY, name), table)
        if all(part.truth for part in self.parts):
            masks = [self.store.read_table(part.truth) for part in self.parts if part.truth]
            truth = part_file(TRUTH_DIRECTORY, name)
            scratch.write_table(truth, pa.concat_tables(masks).take(chosen))
        return CorpusPart(name, TRAIN, len(chosen), truth), None


@dataclass(frozen=True)
class ListedSample:
    """Images that a source lists, of the first that would become a part; nothing is ingested yet.

    Attributes:
        packer: Of the listing.
        rows: The images.
    """

    packer: Packer
    rows: tuple[SourceRow, ...]

    @classmethod
    def of(cls, listing: Listing, part_rows: int) -> ListedSample:
        """Of the first training images, evenly spread."""
        batches = plan_batches((r for r in listing.rows if r.split == TRAIN), part_rows)
        rows: list[SourceRow] = []
        for batch in batches:
            rows += batch if len(rows) < IMAGES else []
        return cls(listing.packer, tuple(rows[i] for i in _spread(len(rows))))

    def __call__(self, scratch: Store) -> tuple[CorpusPart | None, Pace]:
        """See :class:`Sample`."""
        record, seconds = _timed(lambda: replace(self.packer, store=scratch)(Batch(self.rows)))
        part = CorpusPart.of(record["part"]) if record["part"] else None
        each = seconds / max(1, len(self.rows))
        if part is None:
            return None, Pace("probe", 0.0, 0.0, each, 0.0)
        size = scratch.sizes(CORPUS_DIRECTORY)[f"{part.name}.parquet"]
        empty = _empty_part(scratch, CORPUS)
        row = (size - empty) / part.rows
        return part, Pace("probe", 0.0, 0.0, each, row, part_bytes=empty)


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
class Probed:
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
    """

    config: RunConfig
    wanted: frozenset[str]
    worker: Worker = Worker()

    def __call__(self, sample: Sample) -> Probed:
        """Probe on a sample; the user's mistakes are told in what is returned."""
        found = Probed()
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

    def _run(self, scratch: Store, sample: Sample, found: Probed) -> None:
        part, ingest = sample(scratch)
        if ingest:
            found.paces[INGEST] = ingest
        if part is None:
            found.trouble = "no image of the sample can be used"
            return
        found.images = part.rows
        plan = build_plan(self._config, Snapshot(self.config.corpus.classes, (part,)))
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

    def _pace(self, store: Store, step: Step[Stage], part: Part, found: Probed) -> Pace:
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
        _, seconds = _timed(lambda: Evaluator(store, plan)(part))
        return Pace("probe", 0.0, 0.0, seconds / part.rows, 0.0)


def measure_parts(store: Store, stage: TableStage, part: Part, device: Device) -> Pace:
    """What a table costs that is made image by image; the part's table is there afterwards."""
    _forget_peak()
    model, start = _timed(lambda: stage.load(store, device))
    rows, reading = _timed(lambda: read_part(store, stage.inputs, part.name))
    _, first = _timed(lambda: stage.finish(model(rows.slice(0, 1))))  # with what happens once
    raw, seconds = _timed(lambda: model(rows))
    finished, finishing = _timed(lambda: stage.finish(raw))
    done, writing = _timed(lambda: stage.write(store, part, finished))
    empty = _empty_part(store, stage.schema)
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
    trainer, start = _timed(lambda: short.trainer(store, worker.device))
    pieces = short.pieces([part], Rank(), 0)
    batches = rebatch((short.read(store, piece) for piece in pieces), batch)
    reading: list[float] = []
    stepping: list[float] = []
    for _ in range(STEPS + 1):
        samples, seconds = _timed(lambda: next(batches))
        reading.append(seconds)
        stepping.append(_timed(partial(_step, trainer, samples))[1])
        if len(stepping) > 1 and time.monotonic() - begun > STEP_SECONDS:
            break
    size = save_network(store, stage.key.directory, trainer.trained_network())
    once = start + reading[0] + stepping[0]
    step, read = (float(np.mean(seconds[1:])) for seconds in (stepping, reading))
    return Pace("probe", once, step, read, size, _peak())


def _step(trainer: Trainer, samples: dict[str, NDArray[Any]]) -> None:
    trainer.step(samples)
    trainer.flush()  # on a GPU a step has ended only then


def _empty_part(store: Store, schema: pa.Schema) -> int:
    """Bytes of a part without rows."""
    return store.write_table("empty.parquet", schema.empty_table())


def _spread(rows: int) -> list[int]:
    """Evenly spaced row numbers, as many as a probe looks at."""
    return sorted(set(np.linspace(0, rows - 1, min(rows, IMAGES)).round().astype(int).tolist()))


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.monotonic()
    result = work()
    return result, time.monotonic() - started


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
