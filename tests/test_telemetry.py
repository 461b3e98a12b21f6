"""What is told of numbers reaches who collects them; dashboard and docs name what there is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsp import telemetry
from dcsp.corpus.rejected import RejectionCounter
from dcsp.errors import StoreError
from dcsp.run.history import Event, add_event, tell_published
from dcsp.store.lease import Lease
from dcsp.store.remote import Retries, retried
from dcsp.store.store import Store
from dcsp.tables.layout import CURRENT
from dcsp.tables.schemas import REJECTED
from dcsp.telemetry import (
    IMAGES,
    LEASE_EXPIRY,
    METRICS,
    PUBLISHED,
    RATE,
    REJECTIONS,
    RETRIED,
    Metric,
    at_stage,
    collect,
    job_at,
    repeat,
    tell,
    work_on,
)
from tests.source_tree import ROOT

DASHBOARD = ROOT / "jobs" / "grafana" / "dcsp.json"
NAME = re.compile(r"\bray_dcsp_\w+")

Told = list[tuple[Metric, float, dict[str, str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """What a collector gets; nothing of other tests."""
    found: Told = []
    monkeypatch.setattr(telemetry, "_told", {})
    monkeypatch.setattr(telemetry, "_job", telemetry._Job())
    work_on("web")
    collect(lambda *numbers: found.append(numbers))
    yield found
    collect(None)


def test_a_collector_gets_what_was_told_before_it_came(told: Told) -> None:
    collect(None)
    tell(IMAGES, 3, stage="saliency", status="ok")
    tell(IMAGES, 4, stage="saliency", status="ok")
    tell(RATE, 2.0, stage="saliency")
    tell(RATE, 5.0, stage="saliency")
    assert told == []
    collect(lambda *numbers: told.append(numbers))
    assert told == [
        (IMAGES, 7, {"name": "web", "stage": "saliency", "status": "ok"}),
        (RATE, 5.0, {"name": "web", "stage": "saliency"}),
    ]
    tell(IMAGES, 1, stage="saliency", status="ok")
    assert told[2:] == [(IMAGES, 1, {"name": "web", "stage": "saliency", "status": "ok"})]


def test_gauges_are_repeated_for_as_long_as_their_collector_is_wanted(told: Told) -> None:
    found: Told = []

    def collector(metric: Metric, value: float, labels: dict[str, str]) -> None:
        found.append((metric, value, labels))

    collect(collector)
    tell(IMAGES, 3, stage="saliency", status="ok")
    tell(RATE, 5.0, stage="saliency")
    assert repeat(collector)
    assert found[2:] == [(RATE, 5.0, {"name": "web", "stage": "saliency"})], "no image twice"
    collect(None)
    assert not repeat(collector) and len(found) == 3


def test_labels_are_those_of_the_metric(told: Told) -> None:
    with pytest.raises(ValueError, match=r"dcsp_images_total has the labels"):
        tell(IMAGES, 1, stage="saliency")
    assert told == []


def test_a_stage_ends_also_by_an_error() -> None:
    with at_stage("outer"):
        with pytest.raises(RuntimeError), at_stage("inner"):
            assert job_at()["stage"] == "inner"
            raise RuntimeError
        assert job_at()["stage"] == "outer"
    assert job_at()["stage"] == ""


def test_attempts_are_counted_at_the_stage_that_makes_them(told: Told) -> None:
    answers = [ConnectionError("reset"), ConnectionError("reset"), None]

    def operation() -> str:
        if answer := answers.pop(0):
            raise answer
        return "done"

    with at_stage("cues_phase0"):
        assert retried(operation, Retries(unreachable_tries=7, first_pause=0.0)) == "done"
    labels = {"name": "web", "stage": "cues_phase0", "of": "store"}
    assert told == [(RETRIED, 1, labels), (RETRIED, 1, labels)]


def test_rejections_are_counted_by_reason_and_not_again_on_the_next_day(told: Told) -> None:
    row = {"image_id": "a", "split": "train", "uri": "a.jpg", "stage": "decode", "message": ""}
    rows = [{**row, "reason": reason} for reason in ("truncated", "empty", "truncated")]
    carried = REJECTED.empty_table()
    counter = RejectionCounter(1.0, carried, carried, 0)
    counter.add({"listed": 5, "rejected": rows})
    counts = {labels["reason"]: value for metric, value, labels in told if metric is REJECTIONS}
    assert counts == {"truncated": 2, "empty": 1}
    told.clear()
    RejectionCounter(1.0, carried, counter.rejected, 5)
    assert told == []


def test_a_lease_tells_when_it_expires_and_that_it_was_given_back(
    told: Told, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    with Lease(store, "relabel", "web", seconds=300.0):
        (metric, expires, labels) = told[-1]
        assert (metric, labels) == (LEASE_EXPIRY, {"name": "web"})
        assert expires - time.time() == pytest.approx(300, abs=30)
        with pytest.raises(StoreError), Lease(store, "relabel", "web"):
            pass
        assert told[-1] == (metric, expires, labels), "who is refused says nothing of the lease"
    assert told[-1] == (LEASE_EXPIRY, 0, labels)


def test_the_published_run_is_as_old_as_the_event_that_published_it(
    told: Told, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    tell_published(store)
    assert told == [], "nothing is published"
    add_event(store, Event("published", "web-1", "relabel", None))
    add_event(store, Event("held back", "web-2", "relabel", "web-1"))
    store.write_bytes(CURRENT, b"web-1\n")
    tell_published(store)
    ((metric, at, _),) = told
    assert metric is PUBLISHED and at == pytest.approx(time.time(), abs=30)


def test_names_are_prometheus_style_and_of_one_metric_each() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("dcsp_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name


def test_the_dashboard_can_be_imported_and_asks_for_metrics_that_there_are() -> None:
    tree = json.loads(DASHBOARD.read_text())
    assert tree["title"] and tree["uid"] and tree["schemaVersion"] >= 36 and tree["id"] is None
    variables = {v["name"]: v for v in tree["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asked = set()
    labels = {f"ray_{metric.name}": {"name", *metric.labels} for metric in METRICS}
    ids = [panel["id"] for panel in tree["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in tree["panels"]:
        place = panel["gridPos"]
        assert {"x", "y", "w", "h"} == {*place} and place["x"] + place["w"] <= 24
        assert panel["title"] and panel["type"] in {"timeseries", "stat"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            (name,) = NAME.findall(target["expr"])
            assert name in labels, f"{panel['title']} asks for {name}"
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            by = re.search(r"by \(([\w, ]+)\)", target["expr"])
            assert by and set(shown) <= set(by[1].split(", ")) <= labels[name]
            asked.add(name)
    assert NAME.findall(variables["name"]["query"])[0] in labels
    assert asked == set(labels), "every metric has a panel"


def test_the_docs_list_every_metric_with_kind_and_labels() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(ray_dcsp_\w+)` \| (\w+) \|([^|]*)\|", text, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {f"ray_{metric.name}": (metric.kind, metric.labels) for metric in METRICS}
    assert set(NAME.findall(text)) == set(told)
