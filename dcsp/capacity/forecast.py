"""What the stages of a run will ask of a cluster, how long they will take and what that will cost.

Arithmetic alone, without Ray. A figure that nobody measured stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dcsp.capacity import refusals
from dcsp.capacity.pace import Pace
from dcsp.capacity.resources import SAMPLE_TASKS, TASK_CPUS, Resources
from dcsp.capacity.workload import Work
from dcsp.config import ClusterSettings
from dcsp.text import duration, in_columns, quantity, size

UNKNOWN = "?"


@dataclass(frozen=True)
class Price:
    """What a cluster costs an hour, for each CPU and GPU that it has, busy or not."""

    cpu: float = 0.0
    gpu: float = 0.0

    def of(self, resources: Resources, seconds: float) -> float:
        """Of a whole cluster for some time."""
        cpus = resources.cores or resources.cpus
        return seconds / 3600 * (cpus * self.cpu + resources.gpus * self.gpu)


@dataclass(frozen=True)
class Forecast:
    """One stage on a cluster.

    Attributes:
        work: What is left of it.
        workers: Tasks, model actors or training workers; 0 where nothing is left.
        cpus: Each of them asks of Ray.
        gpus: The same.
        memory: Bytes that all of them will have, by the probe; Ray is asked for none.
        bytes_out: Bytes that it will write.
        seconds: How long it will take.
        source: Who measured what seconds and bytes come from: ``probe``, ``earlier`` or unknown.
    """

    work: Work
    workers: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    memory: float | None = None
    bytes_out: float | None = None
    seconds: float | None = None
    source: str = UNKNOWN


def forecast(
    works: Sequence[Work],
    paces: Mapping[str, Pace],
    resources: Resources,
    settings: ClusterSettings,
) -> list[Forecast]:
    """Every stage on a cluster, in order."""
    return [_of(work, paces.get(work.title), resources, settings) for work in works]


def check_memory(lines: Sequence[Forecast], resources: Resources) -> None:
    """Refuse stages whose workers, by the probe, do not fit the memory of the nodes.

    Raises:
        ClusterError: One of them does not.
    """
    settings = {"actors": "cluster.actors", "training": "cluster.train_workers"}
    for line in lines:
        if line.memory is not None and line.work.kind in settings:
            each, setting = line.memory / line.workers, settings[line.work.kind]
            refusals.check_memory(resources, line.work.title, line.workers, each, setting)


def _of(work: Work, pace: Pace | None, resources: Resources, settings: ClusterSettings) -> Forecast:
    if not work.rows_left:
        return Forecast(work, bytes_out=0.0, seconds=0.0, source="")
    workers, cpus, gpus = _asked(work, resources, settings)
    if pace is None:
        return Forecast(work, workers, cpus, gpus)
    seconds = {"actors": _mining, "training": _training, "tasks": _tasks}[work.kind]
    return Forecast(
        work,
        workers,
        cpus,
        gpus,
        memory=None if pace.memory is None else workers * pace.memory,
        bytes_out=pace.bytes if work.steps else pace.size(work.rows_left, work.parts_left),
        seconds=seconds(work, pace, resources, workers, cpus),
        source=pace.source,
    )


def _asked(work: Work, resources: Resources, settings: ClusterSettings) -> tuple[int, float, float]:
    """Workers, and CPUs and GPUs of each."""
    if work.kind == "tasks":
        return max(1, min(int(resources.cpus), work.parts_left)), TASK_CPUS, 0.0
    if work.kind == "training":
        workers = resources.training_workers(settings)
        return workers, resources.training_cpus(settings), 1.0 if resources.gpus else 0.0
    actors = resources.mining_actors(settings, work.parts_left)
    options = resources.actor_options(actors)
    return actors, options["num_cpus"], options.get("num_gpus", 0.0)


def _mining(work: Work, pace: Pace, resources: Resources, actors: int, _: float) -> float:
    """The slower of models and of the tasks beside them; without GPUs they share the cores."""
    cores = _cores(resources)
    rounds = math.ceil(work.parts_left / actors)
    models = rounds * pace.model * work.rows_left / work.parts_left
    tasks = work.rows_left * pace.tasks / min(resources.finishing_tasks(actors), cores)
    shared = 0.0 if resources.gpus else work.rows_left * (pace.model + pace.tasks) / cores
    return pace.start + max(models, tasks, shared)


def _training(work: Work, pace: Pace, resources: Resources, workers: int, cpus: float) -> float:
    """The slower of steps and of reading ahead for them; without GPUs they share the cores."""
    step = max(pace.model, pace.tasks / SAMPLE_TASKS)
    if not resources.gpus:
        step = max(step, workers * (pace.model * max(1.0, cpus) + pace.tasks) / _cores(resources))
    return pace.start + work.steps * step


def _tasks(work: Work, pace: Pace, resources: Resources, workers: int, _: float) -> float:
    return work.rows_left * pace.tasks / min(workers, _cores(resources))


def _cores(resources: Resources) -> float:
    return max(1.0, resources.cores or resources.cpus)


def table(lines: Sequence[Forecast], resources: Resources, price: Price | None) -> str:
    """The stages as text, with their sum."""
    columns: dict[str, Callable[[Forecast], str]] = {
        "stage": lambda f: f.work.title,
        "parts": lambda f: f"{f.work.parts_left:,}/{f.work.parts:,}",
        "images": lambda f: f"{f.work.rows_left:,}" if f.work.rows_left else "done",
        "workers": lambda f: str(f.workers) if f.workers else "",
        "CPUs": lambda f: f"{f.workers * f.cpus:.4g}" if f.workers else "",
        "GPUs": lambda f: f"{f.workers * f.gpus:.4g}" if f.workers else "",
        "memory": lambda f: _known(f.memory, size) if _reads(f) else "",
        "read": lambda f: _known(f.work.bytes_in, size) if _reads(f) else "",
        "written": lambda f: _known(f.bytes_out, size) if f.workers and f.bytes_out != 0 else "",
        "time": lambda f: _known(f.seconds, duration) if f.workers else "",
    }
    if price is not None:
        cost = price
        columns["cost"] = lambda f: _cost(cost, resources, f.seconds) if f.workers else ""
    columns["measured by"] = lambda f: f.source
    rows = [list(columns), *([cell(line) for cell in columns.values()] for line in lines)]
    rows.append([_sum(name, lines, resources, price) for name in columns])
    return "\n".join(in_columns(rows, f"<{'>' * (len(columns) - 2)}<"))


def _sum(name: str, lines: Sequence[Forecast], resources: Resources, price: Price | None) -> str:
    """A cell of the last line; a sum in which something is unknown is that of the rest."""
    known = [line.seconds for line in lines if line.seconds is not None]
    more = " +" if len(known) < len(lines) else ""
    if name == "stage":
        return "together"
    if name == "time":
        return f"{duration(sum(known))}{more}" if any(known) or not more else UNKNOWN
    if name == "cost" and price is not None:
        return f"{_cost(price, resources, sum(known))}{more}"
    return ""


def _reads(line: Forecast) -> bool:
    """Whether it has a model and reads tables; tasks of ingest and evaluation are small."""
    return bool(line.workers) and line.work.kind != "tasks"


def _known(value: float | None, write: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else write(value)


def _cost(price: Price, resources: Resources, seconds: float | None) -> str:
    return _known(seconds, lambda known: f"{price.of(resources, known):,.2f}")


def cluster_line(resources: Resources) -> str:
    """What a cluster has, and how much of it is free."""
    nodes = f"{quantity(resources.nodes, 'node')} ({resources.described})"
    parts = [f"cluster: {nodes}", f"{resources.cpus:g} CPUs{_free(resources.free_cpus)}"]
    if resources.cores:
        parts[-1] += f" on {resources.cores:g} cores"
    parts.append(f"{resources.gpus:g} GPUs{_free(resources.free_gpus)}")
    if resources.memory:
        free = "" if resources.free_memory is None else f" ({size(resources.free_memory)} free)"
        parts.append(f"{size(resources.memory)} memory{free}")
    if resources.object_store:
        parts.append(f"object store of {size(resources.object_store)} a node or more")
    return ", ".join(parts)


def _free(value: float | None) -> str:
    return "" if value is None else f" ({value:g} free)"
