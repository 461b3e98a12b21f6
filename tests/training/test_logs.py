"""The log of a training: every step, over restarts, for people and for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcsp.store.store import Store
from dcsp.training.logs import TrainLog


def log_of(*losses: float) -> TrainLog:
    log = TrainLog("fcan", steps=10, batch=4)
    for step, loss in enumerate(losses, start=1):
        log.add({"step": step, "learning_rate": 0.001, "loss": loss})
    return log


def test_a_log_keeps_every_step_with_six_digits() -> None:
    log = log_of(0.69314718, 1e-7 / 3)
    assert [entry["loss"] for entry in log.history] == [0.693147, 3.33333e-08]
    assert log.done == 8 and log.note() == "step 2/10, loss 0.000"


def test_nothing_has_happened_at_first() -> None:
    log = TrainLog("fcan", 10, 4)
    log.add({})  # a GPU tells of a step one step later
    assert (log.history, log.done, log.note()) == ([], 0, "")


def test_a_restored_log_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log = log_of(0.5, 0.4)
    now += 30
    dumped = log.dump()
    now += 1000  # the job lay killed
    again = TrainLog("fcan", 10, 4)
    again.restore(dumped, step=2)
    now += 5
    again.add({"step": 3, "learning_rate": 0.001, "loss": 0.3})
    assert [entry["step"] for entry in again.history] == [1, 2, 3]
    assert again.seconds == pytest.approx(35) and again.restarts == [2]
    third = TrainLog("fcan", 10, 4)
    third.restore(again.dump(), step=3)
    assert third.restarts == [2, 3] and json.loads(third.dump())["seconds"] >= 35


def test_a_log_tells_each_library_that_it_went_on_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def by(version: str, before: TrainLog | None = None) -> TrainLog:
        monkeypatch.setattr("dcsp.training.logs.as_told", lambda _: [f"torch {version}"])
        log = TrainLog("fcan", 10, 4)
        if before:
            log.restore(before.dump(), step=2)
        return log

    first = by("2.6")
    assert by("2.6", first).libraries == [["torch 2.6"]]
    second = by("2.7", by("2.6", first))
    assert second.libraries == [["torch 2.6"], ["torch 2.7"]]
    assert by("2.6", second).libraries == [["torch 2.6"], ["torch 2.7"], ["torch 2.6"]]


def test_a_log_of_an_earlier_version_is_gone_on_with() -> None:
    told = json.loads(log_of(0.5).dump())
    del told["libraries"]
    log = TrainLog("fcan", 10, 4)
    log.restore(json.dumps(told), step=1)
    assert log.libraries == TrainLog("fcan", 10, 4).libraries


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_bytes("checkpoints/ab/tensorboard/events.of.a.run.before", b"x")
    log_of(0.5, 0.4, 0.3).write_events(store, "checkpoints/ab/tensorboard")
    assert len(store.list("checkpoints/ab/tensorboard")) == 1
    events = EventAccumulator(store.path("checkpoints/ab/tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"fcan/loss", "fcan/learning_rate"}
    found = [(event.step, event.value) for event in events.Scalars("fcan/loss")]
    assert found == [(1, pytest.approx(0.5)), (2, pytest.approx(0.4)), (3, pytest.approx(0.3))]
