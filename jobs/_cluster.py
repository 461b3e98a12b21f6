"""Every Ray idiom of this project, and the only module that imports Ray.

It connects to a cluster, works out who gets which CPUs and GPUs, spreads a
:class:`~dcsp.tables.mapping.PartMap` over the parts of a corpus (Ray Data), and runs a
:class:`~dcsp.training.stage.TrainStage` (Ray Train). What is computed is decided in ``dcsp``.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keep CUDA visible to CPU tasks
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a cluster is started here or not at all

import ray
import ray.data
import ray.train
import ray.train.torch
from numpy.typing import NDArray
from ray.exceptions import RayError

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, DcspError
from dcsp.progress import Progress
from dcsp.tables.mapping import (
    STAGE_FILE,
    Device,
    Part,
    PartMap,
    PartSummary,
    begin_stage,
)
from dcsp.tables.store import Store
from dcsp.training.logs import TrainLog
from dcsp.training.loop import Trainer, state_from_bytes, state_to_bytes
from dcsp.training.stage import TrainStage, checkpoint_is_complete, save_checkpoint
from dcsp.training.stream import PartSlice, rank_batch, rebatch
from jobs._blocks import PART, ROWS, FinishAndWrite, ReadParts, ReadSamples, model_class, windows
from jobs._resources import SPARE_CPUS, Resources
from jobs._watch import Board, in_thread, watched

Result = TypeVar("Result")

PATIENT_THREADS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Threads of a model that wait must not spin: beside reads and writes that costs several times the
work itself (a training step of 10 crops took 7.9 s with spinning threads, 2.3 s without)."""
STARTS = 3
"""Attempts at starting a local cluster."""
RESUMABLE = "checkpoints/resumable"
"""Directory of the store for trainings that have not ended."""
SAMPLE_TASKS = 2
"""Tasks a training worker has reading and augmenting at once."""
WINDOW_SAMPLES = 256
"""Samples a training worker has read at a time; as many again are being read ahead."""


def connect(settings: ClusterSettings) -> Resources:
    """Join the cluster that is named or surrounds this job, else start one on this machine.

    Raises:
        ClusterError: The named cluster cannot be reached.
    """
    if not ray.is_initialized():
        _start(settings.address or os.environ.get("RAY_ADDRESS"))
    _data_context()
    total = ray.cluster_resources()
    return Resources(
        cpus=float(total.get("CPU", 0)),
        gpus=float(total.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
    )


def _data_context() -> ray.data.DataContext:
    """Ray Data's settings of this process, as every dataset here wants them."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # a wrapper would lose the user's error on its way
    context.target_max_block_size = 2**31  # a part stays one block: it is written whole
    return context


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
            ray.init(address=address, runtime_env={"env_vars": PATIENT_THREADS}, **quiet)
        else:
            _start_here(quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            f"Cannot join the Ray cluster at {address or 'this machine'} ({error}): check the "
            "address, the RAY_AUTH_MODE and RAY_AUTH_TOKEN of both sides, and that it is running."
        ) from error


def _start_here(quiet: dict[str, Any]) -> None:
    """Start a cluster of this machine alone, whatever other clusters it has.

    Raises:
        ClusterError: Ray's processes do not come up.
    """
    cpus = (os.cpu_count() or 1) + SPARE_CPUS
    # A token of its own: nobody else joins, and none is left in the home directory.
    own = {"RAY_AUTH_TOKEN": secrets.token_hex(32), **PATIENT_THREADS}
    os.environ.update({name: own[name] for name in own if name not in os.environ})
    for _ in range(STARTS):
        try:
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:
            # Ray waits 30 s for its own processes, which a busy machine may not keep.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise ClusterError(
        f"Ray did not start on this machine in {STARTS} attempts: it is overloaded, try later."
    )


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
            ReadParts(store, stage),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.TaskPoolStrategy(size=resources.reading_tasks(actors)),
            num_cpus=0,
        )
        .map_batches(
            model_class(store, stage, device),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            **resources.actor_options(actors),
        )
        .map_batches(
            FinishAndWrite(store, stage),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.TaskPoolStrategy(size=resources.finishing_tasks(actors)),
            num_cpus=0,
        )
    )
    summaries = []
    for row in watched(dataset.iter_rows, stage.key.stage, settings.stall_minutes):
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

    for result in watched(run, title, settings.stall_minutes):
        results.append(result)
        advance(result)
    return results


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
    resources.check_training_fits(settings)
    directory = stage.key.directory
    resumable = f"{RESUMABLE}/{stage.key.fingerprint}"
    store.write_json(f"{directory}/{STAGE_FILE}", stage.key.as_dict())
    board = ray.remote(num_cpus=0)(Board).remote()
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"store": store, "stage": stage, "parts": list(parts), "board": board},
        scaling_config=_scaling(resources, settings),
        run_config=ray.train.RunConfig(
            name=stage.key.fingerprint,
            storage_path=store.location(RESUMABLE),
            storage_filesystem=None if store.is_local else store.arrow_filesystem(),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    for done, note in watched(lambda: _fit(trainer, board), stage.title, settings.stall_minutes):
        progress.reach(done, note)
    if not checkpoint_is_complete(store, directory):
        raise ClusterError(
            f"Ray says that {stage.title} has ended, but {store.path(directory)} is not complete: "
            f"remove {store.path(resumable)} and submit again."
        )
    store.remove(resumable)


def _scaling(resources: Resources, settings: ClusterSettings) -> ray.train.ScalingConfig:
    gpus = {"GPU": 1} if resources.gpus else {}
    return ray.train.ScalingConfig(
        num_workers=resources.training_workers(settings),
        use_gpu=bool(resources.gpus),
        resources_per_worker={"CPU": resources.training_cpus(settings), **gpus},
    )


def _fit(trainer: ray.train.torch.TorchTrainer, board: Any) -> Iterator[tuple[int, str]]:
    """Train, and yield how far it is whenever that changes.

    The trainer has a thread of its own: in the main thread it would take Ctrl-C over for good and
    leave with exit code 0.
    """
    fitting = in_thread(trainer.fit)
    last = -1
    while not concurrent.futures.wait([fitting], timeout=1.0).done:
        try:
            done, note, error = ray.get(board.read.remote(), timeout=30)
        except (RayError, TimeoutError):
            continue
        if error is not None:
            raise error  # at once: Ray would try again what cannot go well
        if done != last:
            last = done
            yield done, note
    fitting.result()


def _train_worker(job: dict[str, Any]) -> None:
    """One training process; what the user must mend goes to the driver as it is."""
    try:
        _train_on_rank(job["store"], job["stage"], job["parts"], job["board"])
    except DcspError as error:
        ray.get(job["board"].write.remote(0, "", error))
        raise


def _train_on_rank(store: Store, stage: TrainStage, parts: Sequence[Part], board: Any) -> None:
    """Restore, stream samples, step, report; rank 0 leaves the model."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    trainer = stage.trainer(store, str(ray.train.torch.get_device()), rank, world)
    log = TrainLog(stage.title, stage.settings.steps, stage.settings.batch)
    restored = ray.train.get_checkpoint()
    if restored is not None:
        with restored.as_directory() as folder:
            trainer.load_state_dict(state_from_bytes(Path(folder, "state.pt").read_bytes()))
            log.restore(Path(folder, "log.json").read_text(), trainer.step_number)
    for batch in _samples(store, stage, parts, rank, world, trainer.step_number):
        log.add(trainer.step(batch))
        if rank == 0:
            board.write.remote(log.done, log.note())
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
    size = rank_batch(stage.settings.batch, rank, world)
    yield from rebatch(_windows(ReadSamples(store, stage), pieces), size)


def _windows(read: ReadSamples, pieces: Sequence[PartSlice]) -> Iterator[dict[str, NDArray[Any]]]:
    """Samples of slices in order, by short datasets, the next being read ahead.

    One long dataset must be held back while the network learns: its executor then spins in this
    process, at half the CPU time of training.
    """
    context = _data_context()
    context.execution_options.preserve_order = True

    def fetch(window: Sequence[PartSlice]) -> list[dict[str, NDArray[Any]]]:
        ray.data.DataContext._set_current(context)
        dataset = ray.data.from_items(
            [{"piece": json.dumps(piece)} for piece in window], override_num_blocks=len(window)
        ).map_batches(
            read,
            batch_size=1,
            num_cpus=0,
            compute=ray.data.TaskPoolStrategy(size=SAMPLE_TASKS),
        )
        return list(dataset.iter_batches(batch_size=None, batch_format="numpy"))

    with ThreadPoolExecutor(1) as ahead:
        waiting: Future[list[dict[str, NDArray[Any]]]] | None = None
        for window in windows(pieces, WINDOW_SAMPLES):
            following = ahead.submit(fetch, window)
            if waiting:
                yield from waiting.result()
            waiting = following
        if waiting:
            yield from waiting.result()


def _report(trainer: Trainer, log: TrainLog, rank: int) -> None:
    """A barrier of all ranks; rank 0 leaves everything needed to go on."""
    log.add(trainer.flush())
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
