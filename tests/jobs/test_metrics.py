"""What Prometheus would read of a cluster while a job works on it."""

from __future__ import annotations

import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from dcsp.config import ClusterSettings
from dcsp.store.remote import Retries, retried
from dcsp.telemetry import IMAGES, at_stage, work_on
from jobs import _cluster, relabel
from jobs._cluster.metrics import ray_metrics
from tests.jobs.running import Run
from tests.jobs.tiny import TRAIN, VAL
from tests.strangers import HOSTILE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SECONDS = 60.0
"""For numbers to come by: processes send them every ten."""
LINE = re.compile(r"^(ray_dcsp_\w+){(.*)} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
OWN = {"name", "stage", "status", "reason", "of", "quantile"}


def exported() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Name and own labels of each number of ours → what a node shows, summed over processes."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for name, labels, value in LINE.findall(text):
        own = frozenset(pair for pair in LABEL.findall(labels) if pair[0] in OWN)
        found[name, own] = found.get((name, own), 0.0) + float(value)
    return found


def stumble(_: int) -> None:
    """An operation that goes well at the second attempt."""
    answers: list[Exception | None] = [ConnectionError("reset"), None]

    def operation() -> None:
        if answer := answers.pop(0):
            raise answer

    retried(operation, Retries(unreachable_tries=2, first_pause=0.0))


def test_labels_of_any_text_reach_a_node(cluster: object) -> None:
    for text in HOSTILE.values():
        ray_metrics()(IMAGES, 1, {"name": "hostile", "stage": text, "status": "köln"})

    def arrived() -> float:
        own = (value for (_, labels), value in exported().items() if ("name", "hostile") in labels)
        return sum(own)

    last = time.monotonic() + SECONDS
    while arrived() < len(HOSTILE):
        assert time.monotonic() < last, exported()
        time.sleep(1)


def test_a_node_shows_the_numbers_of_a_job_and_of_its_workers(
    finished: Run, cluster: object, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished.store, store)
    shutil.rmtree(store / "trust")
    begun = time.time()
    # Another run of the same tables: trust and evaluation are all there is to do.
    relabel.main(["--config", str(finished.config_file), f"store={store}", "name=watched"])
    work_on("watched")
    with at_stage("stumbling"):
        _cluster.map_items(stumble, [1, 2, 3], ClusterSettings(), title="stumbling")

    def number(name: str, **labels: str) -> float:
        return shown[f"ray_dcsp_{name}", frozenset({"name": "watched", **labels}.items())]

    last, shown = time.monotonic() + SECONDS, exported()
    while True:
        try:
            assert number("images_total", stage="trust", status="ok") == TRAIN + VAL
            assert number("images_total", stage="evaluation", status="done") == TRAIN + VAL
            assert number("retries_total", stage="stumbling", of="store") == 3
            assert number("images_per_second", stage="trust") == 0, "it has ended"
            quantiles = Run(store, finished.config_file, "", "").metrics["trust"]["quantiles"]
            assert {"5", "50", "95"} <= {*quantiles} and quantiles["5"] <= quantiles["95"]
            for percent, score in quantiles.items():
                told = number("trust", quantile=f"{float(percent) / 100:g}")
                assert told == pytest.approx(score)
            assert begun - 1 <= number("published_timestamp_seconds") <= time.time()
            assert number("lease_expires_timestamp_seconds") == 0, "it was given back"
            break
        except (AssertionError, KeyError):
            if time.monotonic() > last:
                raise
            time.sleep(1)
            shown = exported()
