"""Spreading work over a cluster: parts of tables with Ray Data, lists of things as Ray tasks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

import ray
import ray.data

from dcsp.capacity.resources import Resources
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, LostClusterError, StoreError
from dcsp.progress import Progress
from dcsp.stages.parts import PartsMade, PartSummary, remember_parts
from dcsp.stages.stage import Device, TableStage
from dcsp.store.store import Store
from dcsp.tables.schemas import STATUSES
from dcsp.tables.snapshot import Part

from .._blocks import PART, ROWS, FinishAndWrite, ReadParts, model_class
from .._watch import Patience, bare, watched
from .connection import heart
from .metrics import at_work

Result = TypeVar("Result")

REMEMBER_SECONDS = 60.0
"""How often the counts of finished parts are noted, for whoever goes on after a killed job."""


def map_parts(
    store: Store,
    stage: TableStage,
    parts: Sequence[Part],
    resources: Resources,
    settings: ClusterSettings,
    progress: Progress,
) -> PartsMade:
    """Make parts of a table: reads, model actors and writes overlap, each part goes whole.

    Args:
        store: The store.
        stage: What to make.
        parts: The parts to do, at least one: only those that are not there yet.
        resources: Of the cluster.
        settings: Numbers of actors, stall limit.
        progress: Told of every finished part.

    Raises:
        DcspError: The stage met something the user must mend, or made no progress for too long.
    """
    summaries: list[PartSummary] = []
    patience = Patience(stage.key.stage, settings.stall_minutes, settings.total_minutes)
    noted = time.monotonic()

    def note() -> None:
        nonlocal noted
        noted = time.monotonic()
        with suppress(StoreError):  # it only saves work: parts can be counted again
            remember_parts(store, stage.key.directory, summaries)

    try:
        # Nothing here refers to the dataset: it would keep its actors as long as an error is kept.
        with heart().beating():
            made = watched(_dataset(store, stage, parts, resources, settings).iter_rows, patience)
            for row in made:
                statuses = {name: int(row[name]) for name in STATUSES}
                summaries.append(PartSummary(row["part"], row["rows"], row["bytes"], statuses))
                progress.advance(row["rows"], statuses)
                if time.monotonic() - noted > REMEMBER_SECONDS:
                    note()
    except BaseException:
        note()
        raise
    return PartsMade(summaries, resources.mining_actors(settings, len(parts)))


def _dataset(
    store: Store,
    stage: TableStage,
    parts: Sequence[Part],
    resources: Resources,
    settings: ClusterSettings,
) -> ray.data.Dataset:
    """One row a part that has been read, put through the model, finished and written.

    A batch is one row, and so one part: on GPUs Ray wants to be told a size.
    """
    actors = resources.mining_actors(settings, len(parts))
    device = Device("cuda" if resources.gpus else "cpu", threads=1)
    begin = at_work()
    return (
        ray.data.from_items(
            [{PART: part.name, ROWS: part.rows} for part in parts], override_num_blocks=len(parts)
        )
        .map_batches(
            ReadParts(store, stage.inputs, begin),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.TaskPoolStrategy(size=resources.reading_tasks(actors)),
            num_cpus=0,
        )
        .map_batches(
            model_class(store, stage, device, begin),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            **resources.actor_options(actors),
        )
        .map_batches(
            FinishAndWrite(store, stage, begin),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.TaskPoolStrategy(size=resources.finishing_tasks(actors)),
            num_cpus=0,
        )
    )


def map_items(
    function: Callable[[Any], Result],
    items: Sequence[Any],
    settings: ClusterSettings,
    advance: Callable[[Result], None] | None = None,
    num_cpus: float = 1.0,
    title: str = "tasks",
    num_gpus: float = 0.0,
) -> list[Result]:
    """Apply a function to items as Ray tasks; results in the order of the items.

    Few results are in flight at once, and none is kept that ``advance`` has taken, so that a long
    list costs the driver no memory.

    Args:
        function: What to apply.
        items: To what.
        settings: Stall and total limit.
        advance: Takes each result; left out: they are returned.
        num_cpus: Of a task.
        title: Of the work, for messages.
        num_gpus: Of a task.

    Raises:
        DcspError: A task raised it, or there was no progress for too long.
    """
    begin = at_work()

    def apply(item: Any) -> Result:
        begin()
        return function(item)

    remote = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=3)(apply)
    patience = Patience(title, settings.stall_minutes, settings.total_minutes)
    todo = iter(items)
    waiting: deque[Any] = deque()
    results: list[Result] = []
    try:
        with heart().beating():
            ahead = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
            waiting.extend(remote.remote(item) for item in islice(todo, ahead))
            while waiting:
                result = outcome(waiting[0], patience)
                waiting.popleft()
                waiting.extend(remote.remote(item) for item in islice(todo, 1))
                (advance or results.append)(result)
    except LostClusterError:
        raise  # nobody is there to cancel anything
    except ClusterError:
        # What stood still keeps CPUs. After other errors the few tasks in flight end by themselves:
        # Ray ends this process when a task completes at the moment it is cancelled.
        for reference in ray.wait(list(waiting), num_returns=len(waiting), timeout=0)[1]:
            ray.cancel(reference)
        raise
    return results


def outcome(reference: Any, patience: Patience, every: Callable[[], None] = lambda: None) -> Any:
    """What a task returns; its error bare; patience is renewed when it ends.

    Args:
        reference: Of the task.
        patience: With the task.
        every: Called every second until then.
    """
    while not ray.wait([reference], timeout=1.0)[0]:
        every()
        patience.check()
    patience.renew()
    try:
        return ray.get(reference)
    except Exception as error:
        raise bare(error) from None
