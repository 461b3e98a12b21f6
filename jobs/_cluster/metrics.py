"""Numbers for operators as metrics of Ray: the agent of each node shows them to Prometheus."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dcsp.telemetry import Collector, Metric, collect, job_at, join, repeat
from dcsp.text import shown

REPEAT_SECONDS = 5.0
"""Between two reports of gauges: Ray forgets one that was not set for 20 s."""


def report() -> None:
    """Report the numbers of this process, which has joined a cluster, until it leaves that."""
    collector = ray_metrics()

    def keep() -> None:
        while repeat(collector):
            time.sleep(REPEAT_SECONDS)

    collect(collector)
    atexit.register(collect, None)  # before Ray's own exit
    threading.Thread(target=keep, name="metrics", daemon=True).start()


def ray_metrics() -> Collector:
    """A collector of this process, or of the one that it is sent to.

    A closure: it travels by value, and brings neither this package nor torch to a task.
    """
    made: dict[str, Any] = {}

    def send(metric: Metric, value: float, labels: dict[str, str]) -> None:
        from ray.util import metrics

        is_counter = metric.kind == "counter"
        if metric.name not in made:
            kind = metrics.Counter if is_counter else metrics.Gauge
            name = metric.name.removesuffix("_total")  # which Ray adds
            made[metric.name] = kind(name, metric.meaning, tag_keys=("name", *metric.labels))
        # Ray takes ASCII alone, and raises for the rest.
        tags = {
            label: shown(text).encode("ascii", "backslashreplace").decode()
            for label, text in labels.items()
        }
        (made[metric.name].inc if is_counter else made[metric.name].set)(value, tags)

    return send


def at_work() -> Callable[[], None]:
    """What a process of the cluster does before it works on what this process is at now."""
    return partial(join, job_at(), ray_metrics())
