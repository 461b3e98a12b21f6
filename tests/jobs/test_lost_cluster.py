"""A cluster whose head is gone is told within a minute, in one line, and the lease goes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dcsp.errors import LostClusterError, StoreError
from jobs import _heart
from jobs._heart import Heart
from tests.chaos.clusters import StartedNodes
from tests.chaos.nodes import working
from tests.jobs.running import REPOSITORY, end, family, free_ports, wait_until


def silent() -> None:
    time.sleep(600)


def refuses() -> None:
    raise ConnectionError("nobody is there")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_heart, "EVERY", 0.1)


@pytest.mark.parametrize("ask", [silent, refuses])
def test_waiting_for_a_head_that_is_gone_ends(ask: object) -> None:
    with pytest.raises(LostClusterError, match="submit the job again"), Heart(ask, 1.0).beating():  # type: ignore[arg-type]
        time.sleep(30)


@pytest.mark.parametrize("ask", [silent, refuses])
def test_an_error_of_a_cluster_that_is_gone_is_told_as_that(ask: object) -> None:
    with pytest.raises(LostClusterError), Heart(ask, 1.0).beating():  # type: ignore[arg-type]
        raise RuntimeError("a worker crashed")


def test_other_errors_and_ctrl_c_come_out_as_they_are() -> None:
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), Heart(lambda: None, 1.0).beating():
            raise error
    with pytest.raises(StoreError), Heart(silent, 30.0).beating():
        raise StoreError("The disk is full: make room.")


def test_a_head_that_is_busy_is_not_told_gone() -> None:
    """What counts is when an answer comes, however long ago it was asked for."""
    with Heart(lambda: time.sleep(2.2), 3.0).beating():
        time.sleep(5)
    with pytest.raises(RuntimeError), Heart(lambda: time.sleep(0.8), 1.5).beating():
        raise RuntimeError("a worker crashed")


def test_a_process_that_stood_still_does_not_take_its_head_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away, answers = 0.0, threading.Event()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + away, sleep=time.sleep)
    monkeypatch.setattr(_heart, "time", clock)
    with Heart(lambda: answers.wait(30), 5.0).beating():
        time.sleep(0.5)
        away = 100.0  # as a laptop that was closed; no answer comes before the next look
        time.sleep(2)
        answers.set()


STUCK = """
import threading, time
from jobs import _ending, _heart
_heart.GRACE = 0.5
_ending.last_words.append(lambda: print("given back", flush=True))
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
with _heart.Heart(lambda: time.sleep(600), 1.0).beating():
    time.sleep(600)
"""


def test_a_main_thread_that_minds_no_signal_is_ended() -> None:
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "given back\n")
    assert done.stderr.startswith("error: The head of the Ray cluster")


class OneNode(StartedNodes):
    """A head that does the work."""

    def begin(self) -> None:
        where = ["--head", f"--port={self._port}", f"--temp-dir={self._folder}"]
        self._head = self._start(4, *where, "--include-dashboard=false")

    def heal(self) -> None:
        return

    def gcs(self) -> psutil.Process:
        assert self._head is not None
        (found,) = (
            child
            for child in psutil.Process(self._head.pid).children()
            if child.name() == "gcs_server"
        )
        return found

    def lose_head(self) -> None:
        assert self._head is not None
        parent = psutil.Process(self._head.pid)
        end([*parent.children(recursive=True), parent])
        self._head.wait()
        self._head = None


class Job:
    """A job that waits on a cluster."""

    def __init__(self, address: str, scratch: Path, kind: str) -> None:
        self.log, self.scratch = scratch / "log", scratch
        command = [sys.executable, "-m", "tests.jobs.losing_its_head", address, str(scratch), kind]
        with self.log.open("w") as sink:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=sink, stderr=subprocess.STDOUT, text=True
            )

    def wait_for_work(self, head: OneNode, kind: str) -> None:
        """Until its stage runs."""

        def runs() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            if kind == "table":
                return bool(working(head.head, ["MapWorker"]))
            return any(self.scratch.glob("begun")) or any(self.scratch.glob("start-*"))

        wait_until(runs, kind, seconds=240)
        time.sleep(5)

    def assert_told(self, since: float, what: str) -> None:
        """That it ends in less than a minute with one line, and gives its lease back."""
        code = self.process.wait(timeout=120)
        took = time.monotonic() - since
        said = self.log.read_text()
        assert code == 1, said
        assert said.splitlines()[-1].startswith(f"error: {what}"), said
        assert "Traceback" not in said
        assert not (self.scratch / "store/LEASE").exists()
        assert took < 60, took


@pytest.fixture
def head(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneNode]:
    """A started head; Ray has less patience with it than by itself, but in slow tests."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "24")
    with OneNode() as nodes:
        yield nodes


cluster = [pytest.mark.cluster, pytest.mark.timeout(600)]
slow = [*cluster, pytest.mark.slow]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("items", "killed", marks=slow),
        pytest.param("table", "killed", marks=slow),
        pytest.param("training", "killed", marks=slow),
        pytest.param("items", "gcs killed", marks=slow),
        pytest.param("items", "gcs stands still", marks=cluster),
    ],
)
def test_a_head_that_goes_away_under_a_stage_ends_the_job(
    no_cluster: None, head: OneNode, tmp_path: Path, kind: str, how: str
) -> None:
    job = Job(head.address, tmp_path, kind)
    try:
        job.wait_for_work(head, kind)
        since = time.monotonic()
        if how == "killed":
            head.lose_head()
        elif how == "gcs killed":
            head.gcs().kill()
        else:
            os.kill(head.gcs().pid, signal.SIGSTOP)
        job.assert_told(since, "The head of the Ray cluster")
    finally:
        if job.process.poll() is None:
            end(family(job.process))


@pytest.mark.cluster
@pytest.mark.slow  # fast, of a heart alone: above
@pytest.mark.timeout(600)
def test_a_head_that_stands_still_for_a_while_costs_no_job(
    no_cluster: None, head: OneNode, tmp_path: Path
) -> None:
    job = Job(head.address, tmp_path, "items")
    try:
        job.wait_for_work(head, "items")
        os.kill(head.gcs().pid, signal.SIGSTOP)
        time.sleep(9)
        os.kill(head.gcs().pid, signal.SIGCONT)
        time.sleep(12)
        assert job.process.poll() is None, job.log.read_text()
    finally:
        end(family(job.process))


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_head_that_nobody_is_at_is_told(tmp_path: Path) -> None:
    since = time.monotonic()
    job = Job(f"127.0.0.1:{free_ports(1)[0]}", tmp_path, "items")
    job.assert_told(since, "No Ray cluster answers at")
