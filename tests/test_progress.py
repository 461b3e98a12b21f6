"""A log gets a line every few seconds and one at the end; a terminal gets a bar."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TextIO, cast

import pytest

from dcsp import progress, telemetry
from dcsp.progress import JsonLines, Progress, put
from dcsp.telemetry import IMAGES, RATE
from tests.threads import no_thread_left


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made)
    return made


def test_a_log_gets_a_line_every_few_seconds(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("saliency", 100, stream=log) as bar:
        for _ in range(12):
            clock.now += 1
            bar.advance(2)
    lines = log.getvalue().splitlines()
    assert lines == [
        "saliency: 10/100 images, 2.0 images/s, 00:05 gone, 00:45 left",
        "saliency: 20/100 images, 2.0 images/s, 00:10 gone, 00:40 left",
        "saliency: 24/100 images, 2.0 images/s, 00:12 gone, 00:38 left",
    ]


def test_totals_add_up_however_they_are_told(clock: Clock) -> None:
    bar = Progress("fcan", 50, stream=io.StringIO())
    bar.advance(3)
    bar.advance(4)
    bar.reach(20)
    assert bar.done == 20
    bar.advance(5)
    assert bar.done == 25 and bar.total == 50


def test_a_note_stands_at_the_end_of_the_line(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("fcan", 40, unit="images", stream=log) as bar:
        clock.now += 8
        bar.reach(10, "step 1/4, loss 0.693")
    first, last = log.getvalue().splitlines()
    assert first.endswith("00:24 left, step 1/4, loss 0.693")
    assert last == "fcan: 10/40 images, 1.2 images/s, 00:08 gone, 00:24 left"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and looks within hundredths of a second."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.02)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.02)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_lines_while_nothing_ends(hurried: None) -> None:
    log = io.StringIO()
    with Progress("saliency", 512, stream=log) as bar:
        until(lambda: log.getvalue().count("\n") >= 3)
        before = log.getvalue().splitlines()
        bar.reach(256, "a note")
        until(lambda: log.getvalue().count("a note") >= 2)
    assert all(line.startswith("saliency: 0/512 images, ? images/s, ") for line in before)
    assert all(line.endswith(" gone, ? left") for line in before)
    after = log.getvalue().splitlines()[-1]
    assert after.startswith("saliency: 256/512 images") and "?" not in after


def test_a_terminal_is_refreshed_while_nothing_ends(hurried: None) -> None:
    screen = Terminal()
    with Progress("saliency", 512, stream=screen):
        shown = len(screen.getvalue())
        until(lambda: len(screen.getvalue()) > shown)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_written_after_the_end(hurried: None, fails: bool) -> None:
    log = io.StringIO()
    with no_thread_left(), suppress(KeyError), Progress("saliency", 512, stream=log):
        until(lambda: bool(log.getvalue()))
        if fails:
            raise KeyError
    written = log.getvalue()
    time.sleep(0.1)
    assert log.getvalue() == written


def test_threads_may_count_together(hurried: None) -> None:
    with Progress("ingest", 4000, stream=io.StringIO()) as bar:
        counting = [
            threading.Thread(target=lambda: [bar.advance(1) for _ in range(1000)]) for _ in range(4)
        ]
        for thread in counting:
            thread.start()
        for thread in counting:
            thread.join()
    assert bar.done == 4000


@pytest.mark.parametrize(
    ("seconds", "done", "expected"),
    [
        (0.0, 0, "00:00 gone, ? left"),
        (60.6, 5, "01:00 gone, 01:00 left"),
        (3600 * 25 + 61, 5, "25:01:01 gone, 25:01:01 left"),
        (10, 10, "00:10 gone, 00:00 left"),
        (10, 20, "00:10 gone, 00:00 left"),
    ],
)
def test_times_read_like_the_clock_of_a_bar(
    clock: Clock, seconds: float, done: int, expected: str
) -> None:
    bar = Progress("x", 10, stream=io.StringIO())
    clock.now += seconds
    bar.reach(done)
    assert bar.line().endswith(expected)


def test_nothing_done_says_nothing(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("evaluation", 0, unit="parts", stream=log):
        clock.now += 60
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar(clock: Clock) -> None:
    screen = Terminal()
    with Progress("verify", 4, unit="parts", stream=screen) as bar:
        bar.reach(3, "note")
        bar.advance(1)
    assert "verify: 100%" in screen.getvalue() and "4/4" in screen.getvalue()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    """The objects of a log of JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_of_json_has_the_counts_of_progress(clock: Clock) -> None:
    log = io.StringIO()
    telemetry.work_on("web", "web-1f2e")
    with (
        telemetry.at_stage("ingest"),
        Progress("saliency", 100, stream=cast(TextIO, JsonLines(cast(TextIO, log)))) as bar,
    ):
        clock.now += 10
        bar.reach(20, "loss 0.5")
    telemetry.work_on("")
    first = events(log)[0]
    assert datetime.fromisoformat(first.pop("time")).utcoffset() == timedelta(0)
    assert first == {
        "level": "info",
        "run": "web-1f2e",
        "stage": "saliency",
        "message": "saliency: 20/100 images, 2.0 images/s, 00:10 gone, 00:40 left, loss 0.5",
        "done": 20,
        "total": 100,
        "unit": "images",
        "rate": 2.0,
        "note": "loss 0.5",
    }


def test_every_line_of_a_log_of_json_is_an_object_however_it_is_written() -> None:
    log = io.StringIO()
    stream = cast(TextIO, JsonLines(cast(TextIO, log), "warning"))
    print("one", end="", file=stream)
    print(" line\n\nanother \x1b[2J line", file=stream)
    put("two\nlines", stream, "error", figure=1)
    assert [(e["level"], e["message"]) for e in events(log)] == [
        ("warning", "one line"),
        ("warning", "another \x1b[2J line"),
        ("error", "two\nlines"),
    ]
    assert events(log)[-1]["figure"] == 1
    assert "\x1b" not in log.getvalue(), "no terminal is commanded"


def test_a_bar_of_others_and_a_half_line_are_objects_of_a_log_of_json() -> None:
    log = io.StringIO()
    stream = JsonLines(cast(TextIO, log))
    for share in range(1000):
        stream.write(f"\r{share / 10} %")
    assert [event["message"] for event in events(log)] == [f"{n / 10} %" for n in range(999)]
    stream.write("\r\ndone")
    stream.close()
    stream.close()
    assert [event["message"] for event in events(log)[-2:]] == ["99.9 %", "done"]
    assert not log.closed, "it is not ours"
    print("later", file=cast(TextIO, stream))
    assert events(log)[-1]["message"] == "later", "what ends a process may still speak"


def test_a_figure_that_is_not_finite_leaves_a_log_json() -> None:
    log = io.StringIO()
    fields: dict[str, Any] = {"loss": float("nan"), "tree": [{"deep": float("-inf")}], "done": 1.5}
    put("NaN", cast(TextIO, JsonLines(cast(TextIO, log))), **fields)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    event = json.loads(log.getvalue(), parse_constant=refuse)
    assert (event["message"], event["loss"], event["done"]) == ("NaN", "NaN", 1.5)
    assert event["tree"] == [{"deep": "-Infinity"}]


def test_rates_and_images_by_status_are_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(
        progress, "tell", lambda metric, value, **labels: told.append((metric, value, labels))
    )
    with Progress("saliency", 10, stream=io.StringIO()) as bar:
        clock.now += 2
        bar.advance(4, {"ok": 3, "skipped": 0, "error": 1})
        bar.reach(6)
        bar.reach(5)  # a training that goes back to its checkpoint
    with Progress("listing", 10, unit="shards", stream=io.StringIO()) as bar:
        bar.advance(1)
    images = [(value, labels["status"]) for metric, value, labels in told if metric is IMAGES]
    assert images == [(3, "ok"), (1, "error"), (2, "done")]
    rates = [value for metric, value, _ in told if metric is RATE]
    assert rates == [2.0, 3.0, 2.5, 0.0]
    assert {labels["stage"] for _, _, labels in told} == {"saliency"}
