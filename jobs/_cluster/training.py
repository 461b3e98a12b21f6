"""Training stages with Ray Train: one process a GPU, samples read by Ray Data, checkpoints."""

from __future__ import annotations

import _thread
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import ray.train.torch
from numpy.typing import NDArray
from ray.exceptions import RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dcsp.capacity.resources import SAMPLE_TASKS, Resources
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, DcspError, LostClusterError
from dcsp.networks.checkpoint import checkpoint_is_complete
from dcsp.progress import Progress
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.layout import RESUMABLE
from dcsp.tables.snapshot import Part
from dcsp.telemetry import RETRIED, tell
from dcsp.training.logs import TrainLog
from dcsp.training.loop import Trainer, state_from_bytes, state_to_bytes
from dcsp.training.stage import TrainStage
from dcsp.training.stream import PartSlice, Rank, rank_batch, rebatch

from .._blocks import ReadSamples, windows
from .._watch import Patience, TrainingStatus
from .connection import data_context, heart
from .mapping import outcome
from .metrics import at_work

ABORT_SECONDS = 20.0
"""What a trainer gets to give its workers' places back."""
POLL_SECONDS = 0.25
"""How often a trainer asks its workers; Ray's 2 s are waited for at every checkpoint and end."""
WINDOW_SAMPLES = 256
"""Samples a training worker has read at a time; as many again are being read ahead."""


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
    status = ray.remote(num_cpus=0)(TrainingStatus).remote()
    job = {"store": store, "stage": stage, "parts": list(parts), "status": status}
    job["begin"] = at_work()
    # Where the driver is, and it ends with it: what the trainer starts is then ended by Ray.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    fit = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_fit)
    fitting = fit.remote(job, _scaling(resources, settings), settings.max_failures)
    patience = Patience(stage.title, settings.stall_minutes, settings.total_minutes)
    reached = -1

    def follow() -> None:
        nonlocal reached
        try:
            done, note, error = ray.get(status.read.remote(), timeout=30)
        except (RayError, TimeoutError):
            return
        if error is not None:
            raise error  # at once: Ray would try again what cannot go well
        if done < reached:
            tell(RETRIED, 1, stage=stage.title, of="training")
        if done != reached:
            reached = done
            patience.renew()
            progress.reach(done, note)

    try:
        with heart().beating():
            outcome(fitting, patience, every=follow)
    except (KeyboardInterrupt, LostClusterError):
        raise  # this process ends at once, and with it, by Ray, what it started
    except BaseException:
        with suppress(Exception):  # a cluster that is gone must not hide why
            status.give_up.remote()
            ray.wait([fitting], timeout=2 * ABORT_SECONDS)
            free_places()
        raise
    if not checkpoint_is_complete(store, directory):
        raise ClusterError(
            f"Ray says that {stage.title} has ended, but {store.path(directory)} is not complete: "
            f"remove {store.path(resumable)} and submit again."
        )
    store.remove(resumable)


def free_places() -> None:
    """Take back the places of workers that a trainer did not end in time.

    Ray keeps them for as long as this job lives. They are this job's only placement groups, and the
    last bytes of a group's id are its job's.
    """
    job = ray.get_runtime_context().get_job_id()
    for group, about in placement_group_table().items():
        if group.endswith(job) and about["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def _scaling(resources: Resources, settings: ClusterSettings) -> ray.train.ScalingConfig:
    gpus = {"GPU": 1} if resources.gpus else {}
    return ray.train.ScalingConfig(
        num_workers=resources.training_workers(settings),
        use_gpu=bool(resources.gpus),
        resources_per_worker={"CPU": resources.training_cpus(settings), **gpus},
    )


class _Trainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """A trainer without Ray's placement group cleaner.

    The cleaner asks the dashboard, which a cluster of one machine does not have: at the end of
    every training it waits 12 s for it. The group ends with the task that fits anyway.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]


def _fit(job: dict[str, Any], scaling: ray.train.ScalingConfig, max_failures: int) -> None:
    """Train; a task, since only Ctrl-C or the end of its process ends a trainer's ``fit``."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_SECONDS))
    store, fingerprint = job["store"], job["stage"].key.fingerprint
    trainer = _Trainer(
        _train_worker,
        train_loop_config=job,
        scaling_config=scaling,
        run_config=ray.train.RunConfig(
            name=fingerprint,
            storage_path=store.location(RESUMABLE),
            storage_filesystem=None if store.is_local else store.arrow_filesystem(),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    handler = signal.getsignal(signal.SIGINT)
    ended = threading.Event()
    threading.Thread(target=_obey, args=(job["status"], ended), daemon=True).start()
    try:
        trainer.fit()
    except KeyboardInterrupt:
        raise ClusterError(f"The training {job['stage'].title} was given up.") from None
    finally:
        ended.set()
        signal.signal(signal.SIGINT, handler)  # the trainer's keeps its controller's process alive


def _obey(status: Any, ended: threading.Event) -> None:
    """End this process's training when the driver gives it up: first as Ctrl-C does, then at once.

    A trainer that is only killed leaves its workers' places taken as long as the driver lives; one
    that is cancelled while it completes makes Ray end the driver.
    """
    while not ended.wait(1.0):
        try:
            given_up = ray.get(status.is_given_up.remote())
        except RayError:
            return
        if given_up:
            _thread.interrupt_main()
            if not ended.wait(ABORT_SECONDS):
                os._exit(1)
            return


def _train_worker(job: dict[str, Any]) -> None:
    """One training process; what the user must mend goes to the driver as it is."""
    job["begin"]()
    try:
        _train_on_rank(job)
    except DcspError as error:
        ray.get(job["status"].write.remote(0, "", error))
        raise


def _train_on_rank(job: dict[str, Any]) -> None:
    """Restore, stream samples, step, report; rank 0 leaves the model."""
    store, stage, status = job["store"], job["stage"], job["status"]
    context = ray.train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size())
    trainer = stage.trainer(store, str(ray.train.torch.get_device()), rank)
    log = stage.log()
    restored = ray.train.get_checkpoint()
    if restored is not None:
        with restored.as_directory() as folder:
            data = Path(folder, "state.pt").read_bytes()
            trainer.load_state_dict(state_from_bytes(data, stage.key.fingerprint))
            log.restore(Path(folder, "log.json").read_text(), trainer.step_number)
    for batch in _samples(job, rank, trainer.step_number):
        log.add(trainer.step(batch))
        if rank.number == 0:
            status.write.remote(log.done, log.note())
        if trainer.step_number % stage.settings.checkpoint_every == 0 and not trainer.finished:
            _report(trainer, log, rank.number, stage.key.fingerprint)
    if rank.number == 0:
        log.add(trainer.flush())
        stage.save(store, trainer.trained_network(), log)
    ray.train.report({"step": trainer.step_number})


def _samples(job: dict[str, Any], rank: Rank, step: int) -> Iterator[dict[str, Any]]:
    """This rank's batches from a step on: a Ray Data stream over slices of parts, in order.

    Each rank owns its stream, so that its length is known beforehand, no rank waits for another
    one's reads, and a resumed training goes on at its very next image.
    """
    stage: TrainStage = job["stage"]
    pieces = stage.pieces(job["parts"], rank, step)
    size = rank_batch(stage.settings.batch, *rank)
    read = ReadSamples(job["store"], stage, job["begin"])
    yield from rebatch(_windows(read, pieces), size)


def _windows(read: ReadSamples, pieces: Sequence[PartSlice]) -> Iterator[dict[str, NDArray[Any]]]:
    """Samples of slices in order, by short datasets, the next being read ahead.

    One long dataset must be held back while the network learns: its executor then spins in this
    process, at half the CPU time of training.
    """
    context = data_context()
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

    with read_ahead(fetch, windows(pieces, WINDOW_SAMPLES), threads=1, held=1) as fetched:
        for samples in fetched:
            yield from samples


def _report(trainer: Trainer, log: TrainLog, rank: int, training: str) -> None:
    """A barrier of all ranks; rank 0 leaves everything needed to go on."""
    log.add(trainer.flush())
    if rank != 0:
        ray.train.report({"step": trainer.step_number})
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.pt").write_bytes(state_to_bytes(trainer.state_dict(), training))
        Path(folder, "log.json").write_text(log.dump())
        ray.train.report(
            {"step": trainer.step_number},
            checkpoint=ray.train.Checkpoint.from_directory(folder),
        )
