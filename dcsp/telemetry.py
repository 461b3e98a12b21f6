"""Numbers that operators watch, and what a job is at: told here, collected by whoever wants them.

Whatever was told before a collector came reaches it then: a job holds its lease before it joins a
cluster. Without one nothing is sent anywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Metric:
    """One number, or one for each combination of its labels.

    Attributes:
        name: As Prometheus wants it: with its unit, and ``_total`` for a counter.
        kind: A counter only grows; a gauge is what was told last.
        labels: Besides ``name``, the setting of that name, which all have.
        meaning: In a line.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str


IMAGES = Metric(
    "dcsp_images_total",
    "counter",
    ("stage", "status"),
    "images that a stage is done with; rows of tables by status, all others as done",
)
RATE = Metric(
    "dcsp_images_per_second",
    "gauge",
    ("stage",),
    "images a second of a stage since it began; 0 once it has ended",
)
REJECTIONS = Metric(
    "dcsp_rejected_total", "counter", ("reason",), "rows that ingest rejected in this job"
)
RETRIED = Metric(
    "dcsp_retries_total",
    "counter",
    ("stage", "of"),
    "second and later attempts: store (an operation), http (an image), training (after a lost "
    "worker)",
)
TRUST = Metric(
    "dcsp_trust",
    "gauge",
    ("quantile",),
    "score that so many of the images are below, of the run that was evaluated last",
)
PUBLISHED = Metric(
    "dcsp_published_timestamp_seconds",
    "gauge",
    (),
    "when the published run was published; time() less this is its age",
)
LEASE_EXPIRY = Metric(
    "dcsp_lease_expires_timestamp_seconds",
    "gauge",
    (),
    "when the lease expires unless it is renewed; 0 once it was given back or lost",
)
METRICS = (IMAGES, RATE, REJECTIONS, RETRIED, TRUST, PUBLISHED, LEASE_EXPIRY)

Labels = tuple[tuple[str, str], ...]


class Collector(Protocol):
    """Sends numbers on."""

    def __call__(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        """Take what a counter grew by, or what a gauge is."""
        ...


class _Job:
    """What this process is at: its threads are at the same."""

    name = run = stage = ""
    collector: Collector | None = None


_job = _Job()
_told: dict[tuple[Metric, Labels], float] = {}
_turn = threading.RLock()


def job_at() -> dict[str, str]:
    """What this process works on, as :func:`work_on` and :func:`at_stage` were told."""
    return {"name": _job.name, "run": _job.run, "stage": _job.stage}


def work_on(name: str, run: str = "") -> None:
    """Say what this process works on: ``name`` of the config, and the run's id once it is known."""
    _job.name, _job.run = name, run


def join(at: dict[str, str], collector: Collector) -> None:
    """Work on what another process is at (:func:`job_at`), and send numbers as that one does."""
    _job.name, _job.run, _job.stage = at["name"], at["run"], at["stage"]
    if _job.collector is None:
        collect(collector)


@contextmanager
def at_stage(title: str) -> Iterator[None]:
    """Say which stage this process works on for as long as the block lasts."""
    before, _job.stage = _job.stage, title
    try:
        yield
    finally:
        _job.stage = before


def tell(metric: Metric, value: float, **labels: str) -> None:
    """Tell what a counter grew by, or what a gauge is now.

    Raises:
        ValueError: These are not the labels of the metric.
    """
    if set(labels) != set(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
    key = metric, tuple({"name": _job.name, **labels}.items())
    with _turn:
        before = _told.get(key, 0.0) if metric.kind == "counter" else 0.0
        _told[key] = before + value
        if _job.collector:
            _job.collector(metric, value, dict(key[1]))


def collect(collector: Collector | None) -> None:
    """Send all numbers to a collector from now on, those of before first; None: to nobody."""
    with _turn:
        _job.collector = collector
        if collector:
            repeat(collector, ("counter", "gauge"))


def repeat(collector: Collector, kinds: tuple[str, ...] = ("gauge",)) -> bool:
    """Send once more what was told last; returns whether this collector is still wanted.

    For collectors that forget a gauge which nobody tells again.
    """
    with _turn:
        if _job.collector is not collector:
            return False
        for (metric, labels), value in _told.items():
            if metric.kind in kinds:
                collector(metric, value, dict(labels))
    return True
