"""Every Ray idiom of this project, and the only module that imports Ray.

It connects to a cluster, works out who gets which CPUs and GPUs, spreads a
:class:`~dcsp.tables.mapping.PartMap` over the parts of a corpus (Ray Data), and runs a
:class:`~dcsp.training.stage.TrainStage` (Ray Train). What is computed is decided in ``dcsp``.
"""

from __future__ import annotations

import _thread
import json
import logging
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA visible to CPU tasks

import pyarrow as pa
import ray
import ray.data
import ray.train
import ray.train.torch
from ray.exceptions import RayError

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, DcspError
from dcsp.progress import Progress
from dcsp.tables.mapping import (
    Device,
    Part,
    PartMap,
    PartSummary,
    begin_stage,
    read_part,
    write_part,
)
from dcsp.tables.store import Store
from dcsp.training.logs import TrainLog
from dcsp.training.loop import Trainer, state_from_bytes, state_to_bytes
from dcsp.training.stage import TrainStage, checkpoint_is_complete, save_checkpoint
from dcsp.training.stream import PartSlice, rank_batch

Result = TypeVar("Result")

READ_CPUS = 0.25
"""CPUs a read task asks for; unlike the actors' share, so that Ray does not fuse the two."""
FINISH_CPUS = 0.5
"""CPUs a task asks for that fuses, refines, encodes and writes."""
SPARE_CPUS = 2
"""Logical CPUs that a local cluster has beyond its cores, so that reads never wait for a model."""
SAMPLE_TASKS = 2
"""Tasks a training worker has reading and augmenting at once."""
SAMPLES_AHEAD_BYTES = 2**29
"""Most bytes of samples waiting for a training worker."""
PART, ROWS = "_part", "_rows"
"""Columns that carry a part's name and size between tasks."""


@dataclass(frozen=True)
class Resources:
    """What a connected cluster has."""

    cpus: float
    gpus: float
    nodes: int

    def mining_actors(self, settings: ClusterSettings, parts: int) -> int:
        """Model actors for a stage of ``parts`` parts; reads and writes keep CPUs of their own."""
        wanted = settings.actors
        if wanted is None:
            wanted = int(self.gpus) if self.gpus else int(self.cpus - max(SPARE_CPUS, self.cpus / 4))
        return max(1, min(wanted, parts))

    def actor_options(self) -> dict[str, float]:
        """Ray resources of one model actor."""
        cpus = 1.0 if self.cpus >= 2 else 0.5
        return {"num_cpus": cpus, "num_gpus": 1} if self.gpus else {"num_cpus": cpus}


def connect(settings: ClusterSettings) -> Resources:
    """Join the cluster that is named or surrounds this job, else start one on this machine.

    Raises:
        ClusterError: The named cluster cannot be reached.
    """
    if not ray.is_initialized():
        _start(settings.address or os.environ.get("RAY_ADDRESS"))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A part must stay one block: it is read, mined and written whole.
    context.target_max_block_size = 2**31
    total = ray.cluster_resources()
    return Resources(
        cpus=float(total.get("CPU", 0)),
        gpus=float(total.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
    )


def disconnect() -> None:
    """Leave the cluster; ends it when this process started it."""
    ray.shutdown()


def _start(address: str | None) -> None:
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": bool(os.environ.get("DCSP_RAY_LOGS")),
    }
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            cores = os.cpu_count() or 1
            ray.init(num_cpus=cores + SPARE_CPUS, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            f"Cannot join the Ray cluster at {address or 'this machine'} ({error}): check the "
            "address, the RAY_AUTH_MODE and RAY_AUTH_TOKEN of both sides, and that it is running."
        ) from error


def map_parts(
    store: Store,
    stage: PartMap,
    parts: Sequence[Part],
    resources: Resources,
    settings: ClusterSettings,
    progress: Progress,
) -> list[PartSummary]:
    """Make parts of a table: reads, model actors and writes overlap, each part goes whole.

    Args:
        store: The store.
        stage: What to make.
        parts: The parts to do: only those that are not there yet.
        resources: Of the cluster.
        settings: Numbers of actors, stall limit.
        progress: Told of every finished part.

    Raises:
        DcspError: The stage met something the user must mend, or made no progress for too long.
    """
    if not parts:
        return []
    begin_stage(store, stage.key)
    actors = resources.mining_actors(settings, len(parts))
    device = Device("cuda" if resources.gpus else "cpu", threads=1)
    dataset = (
        ray.data.from_items(
            [{PART: part.name, ROWS: part.rows} for part in parts], override_num_blocks=len(parts)
        )
        .map_batches(
            _Read(store, stage),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=READ_CPUS,
        )
        .map_batches(
            _model_class(store, stage, device),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            **resources.actor_options(),
        )
        .map_batches(
            _FinishAndWrite(store, stage),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=FINISH_CPUS,
        )
    )
    summaries = []
    for row in _watched(dataset.iter_rows, stage.key.stage, settings.stall_minutes):
        statuses = {name: int(row[name]) for name in ("ok", "skipped", "error")}
        summaries.append(PartSummary(row["part"], row["rows"], row["bytes"], statuses))
        progress.advance(row["rows"])
    return summaries


def map_items(
    function: Callable[[Any], Result],
    items: Sequence[Any],
    settings: ClusterSettings,
    advance: Callable[[Result], None] = lambda _: None,
    num_cpus: float = 1.0,
    title: str = "tasks",
) -> list[Result]:
    """Apply a function to items as Ray tasks; results in the order of the items.

    Few results are in flight at once, so that a long list costs the driver no memory.
    """

    def apply(item: Any) -> Result:
        return function(item)

    remote = ray.remote(num_cpus=num_cpus, max_retries=3)(apply)
    ahead = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
    results: list[Result] = []

    def run() -> Iterator[Result]:
        waiting: list[Any] = []
        for item in items:
            waiting.append(remote.remote(item))
            if len(waiting) > ahead:
                yield ray.get(waiting.pop(0))
        for reference in waiting:
            yield ray.get(reference)

    for result in _watched(run, title, settings.stall_minutes):
        results.append(result)
        advance(result)
    return results


class _Read:
    """Task: the zipped rows of one part."""

    def __init__(self, store: Store, stage: PartMap) -> None:
        self._store, self._stage = store, stage

    def __call__(self, items: pa.Table) -> pa.Table:
        tables = [
            _labelled(read_part(self._store, self._stage.inputs, item[PART]), item[PART], item[ROWS])
            for item in items.to_pylist()
        ]
        return pa.concat_tables(tables)


def _model_class(store: Store, stage: PartMap, device: Device) -> type:
    """An actor class that loads the model once and applies it to whole parts.

    Its arguments travel inside the class: Ray cannot restart an actor whose arguments are lost.
    """

    class Model:
        def __init__(self) -> None:
            self._model = stage.load(store, device)

        def __call__(self, table: pa.Table) -> pa.Table:
            return pa.concat_tables(
                [_labelled(self._model(rows), *label) for label, rows in _by_part(table)]
            )

    return Model


class _FinishAndWrite:
    """Task: the model's results become rows of the table, written whole; returns a summary."""

    def __init__(self, store: Store, stage: PartMap) -> None:
        self._store, self._stage = store, stage

    def __call__(self, table: pa.Table) -> pa.Table:
        summaries = [
            write_part(self._store, self._stage, Part(*label), self._stage.finish(rows))
            for label, rows in _by_part(table)
        ]
        return pa.Table.from_pylist(
            [
                {
                    "part": summary.part,
                    "rows": summary.rows,
                    "bytes": summary.bytes,
                    **{name: summary.statuses.get(name, 0) for name in ("ok", "skipped", "error")},
                }
                for summary in summaries
            ]
        )


def _labelled(rows: pa.Table, part: str, size: int) -> pa.Table:
    count = rows.num_rows
    return rows.append_column(PART, pa.array([part] * count, pa.string())).append_column(
        ROWS, pa.array([size] * count, pa.int64())
    )


def _by_part(table: pa.Table) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Each part of a block with its label: blocks of several small parts can have been joined."""
    names, sizes = table[PART].to_pylist(), table[ROWS].to_pylist()
    rows = table.drop_columns([PART, ROWS])
    start = 0
    for stop in range(1, len(names) + 1):
        if stop == len(names) or names[stop] != names[start]:
            yield (names[start], sizes[start]), rows.slice(start, stop - start)
            start = stop


def _watched(
    make: Callable[[], Iterator[Result]], title: str, stall_minutes: float
) -> Iterator[Result]:
    """Iterate in a thread and fail when nothing comes for too long; user errors come out bare.

    Raises:
        ClusterError: Nothing came for ``stall_minutes``.
        DcspError: A task raised it.
    """
    done = object()
    items: queue.Queue[Any] = queue.Queue(maxsize=64)

    def run() -> None:
        try:
            for item in make():
                items.put(item)
            items.put(done)
        except BaseException as error:
            items.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            item = items.get(timeout=stall_minutes * 60)
        except queue.Empty:
            raise ClusterError(
                f"The stage {title} made no progress for {stall_minutes:g} minutes: look at the "
                "cluster (ray status), or raise cluster.stall_minutes; submitting again resumes."
            ) from None
        if item is done:
            return
        if isinstance(item, BaseException):
            raise _bare(item)
        yield item


def _bare(error: BaseException) -> BaseException:
    """The user's error inside Ray's wrappers, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DcspError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error


@ray.remote(num_cpus=0)
class _Board:
    """Where a training worker writes how far it is, for the driver's progress bar."""

    def __init__(self) -> None:
        self._state = (0, "")

    def write(self, done: int, note: str) -> None:
        self._state = (done, note)

    def read(self) -> tuple[int, str]:
        return self._state


def train(
    store: Store,
    stage: TrainStage,
    parts: Sequence[Part],
    resources: Resources,
    settings: ClusterSettings,
    progress: Progress,
) -> None:
    """Run a training stage with TorchTrainer, or go on with one that was killed.

    Raises:
        DcspError: The stage met something the user must mend, or made no progress for too long.
    """
    workers = settings.train_workers or max(1, int(resources.gpus))
    cpus = settings.train_cpus or _training_cpus(resources, workers)
    _check_training_fits(workers, cpus, resources)
    directory = stage.key.directory
    store.write_json(f"{directory}/stage.json", stage.key.as_dict())
    board = _Board.remote()
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"store": store, "stage": stage, "parts": list(parts), "board": board},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=bool(resources.gpus),
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if resources.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=stage.key.fingerprint,
            storage_path=_absolute(store, "checkpoints/resumable"),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    with _Watch(board, progress, stage.title, settings.stall_minutes) as watch:
        try:
            trainer.fit()
        except KeyboardInterrupt:
            watch.raise_if_stalled()
            raise
        except Exception as error:
            raise _bare(error) from None
    if not checkpoint_is_complete(store, directory):
        raise ClusterError(
            f"Ray says that {stage.title} has ended, but {store.path(directory)} is not complete: "
            f"remove {store.path('checkpoints/resumable/' + stage.key.fingerprint)} and submit again."
        )
    store.remove(f"checkpoints/resumable/{stage.key.fingerprint}")


def _absolute(store: Store, name: str) -> str:
    return str(Path(store.path(name)).resolve()) if store.is_local else store.path(name)


def _training_cpus(resources: Resources, workers: int) -> float:
    """CPUs of a training worker: what reads and augmentation leave."""
    free = resources.cpus - max(1.0, min(SPARE_CPUS, resources.cpus / 4) + READ_CPUS)
    share = free / workers
    return float(int(share)) if share >= 1 else max(0.25, round(share, 2))


def _check_training_fits(workers: int, cpus: float, resources: Resources) -> None:
    if workers * cpus + READ_CPUS > resources.cpus:
        raise ClusterError(
            f"{workers} training workers of {cpus:g} CPUs leave none of the cluster's "
            f"{resources.cpus:g} CPUs for reading, and would wait for ever: lower "
            "cluster.train_workers or cluster.train_cpus."
        )
    if resources.gpus and workers > resources.gpus:
        raise ClusterError(
            f"{workers} training workers want a GPU each, the cluster has {resources.gpus:g}: "
            "lower cluster.train_workers."
        )


class _Watch:
    """Shows a training's progress from a thread and interrupts it when it stalls."""

    def __init__(self, board: Any, progress: Progress, title: str, stall_minutes: float) -> None:
        self._board, self._progress, self._title = board, progress, title
        self._limit = stall_minutes * 60
        self._ended, self._stalled = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def raise_if_stalled(self) -> None:
        if self._stalled:
            raise ClusterError(
                f"The stage {self._title} made no progress for {self._limit / 60:g} minutes: look "
                "at the cluster (ray status), or raise cluster.stall_minutes; submitting again resumes."
            )

    def _run(self) -> None:
        last, moved = -1, time.monotonic()
        while not self._ended.wait(1.0):
            try:
                done, note = ray.get(self._board.read.remote(), timeout=30)
            except (RayError, TimeoutError):
                continue
            if done != last:
                last, moved = done, time.monotonic()
                self._progress.reach(done, note)
            elif time.monotonic() - moved > self._limit:
                self._stalled = True
                _thread.interrupt_main()
                return


def _train_worker(job: dict[str, Any]) -> None:
    """One training process: restore, stream samples, step, report; rank 0 leaves the model."""
    store, stage, parts = job["store"], job["stage"], job["parts"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    trainer = stage.trainer(store, str(ray.train.torch.get_device()), rank, world)
    log = TrainLog(stage.title, stage.settings.steps, stage.settings.batch)
    restored = ray.train.get_checkpoint()
    if restored is not None:
        with restored.as_directory() as folder:
            trainer.load_state_dict(state_from_bytes(Path(folder, "state.pt").read_bytes()))
            log.restore(Path(folder, "log.json").read_text())
    for batch in _samples(store, stage, parts, rank, world, trainer.step_number):
        log.add(trainer.step(batch))
        if rank == 0:
            job["board"].write.remote(log.done, log.note())
        if trainer.step_number % stage.settings.checkpoint_every == 0 and not trainer.finished:
            _report(trainer, log, rank)
    if rank == 0:
        log.add(trainer.flush())
        save_checkpoint(store, stage, trainer.trained_network(), log)
    ray.train.report({"step": trainer.step_number})


def _samples(
    store: Store, stage: TrainStage, parts: Sequence[Part], rank: int, world: int, step: int
) -> Iterator[dict[str, Any]]:
    """This rank's batches from a step on: a Ray Data stream over slices of parts, in order.

    Each rank owns its stream, so that its length is known beforehand, no rank waits for another
    one's reads, and a resumed training goes on at its very next image.
    """
    pieces = stage.pieces(parts, rank, world, step)
    if not pieces:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=SAMPLES_AHEAD_BYTES
    )
    context.target_max_block_size = 2**31
    dataset = ray.data.from_items(
        [{"piece": json.dumps(piece)} for piece in pieces], override_num_blocks=len(pieces)
    ).map_batches(
        _ReadSamples(store, stage),
        batch_size=1,
        num_cpus=READ_CPUS,
        compute=ray.data.TaskPoolStrategy(size=SAMPLE_TASKS),
    )
    yield from dataset.iter_batches(
        batch_size=rank_batch(stage.settings.batch, rank, world),
        batch_format="numpy",
        prefetch_batches=2,
        drop_last=True,
    )


class _ReadSamples:
    """Task: the augmented samples of one slice of a part."""

    def __init__(self, store: Store, stage: TrainStage) -> None:
        self._store, self._stage = store, stage

    def __call__(self, items: dict[str, Any]) -> dict[str, Any]:
        (piece,) = items["piece"]
        return dict(self._stage.read(self._store, PartSlice(*json.loads(piece))))


def _report(trainer: Trainer, log: TrainLog, rank: int) -> None:
    """A barrier of all ranks; rank 0 leaves everything needed to go on."""
    if rank != 0:
        ray.train.report({"step": trainer.step_number})
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.pt").write_bytes(state_to_bytes(trainer.state_dict()))
        Path(folder, "log.json").write_text(log.dump())
        ray.train.report(
            {"step": trainer.step_number},
            checkpoint=ray.train.Checkpoint.from_directory(folder),
        )
