"""Jobs that are told to end while Ray starts: ``python -m tests.jobs.starting FOLDER 15:0.5 …``.

Each is given as the number of its signal and the seconds until that comes. They are forked from
this process, which has imported Ray, so that many moments cost little, and are at work at once. In
a folder of its own each leaves its store, what it printed, its exit code and its last seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from dcsp.config import ClusterSettings
from dcsp.store.store import Store
from jobs import _cluster
from jobs._lease import hold
from jobs._main import run_job
from tests.jobs.running import wait_until

BEGUN, LOG, ENDED = "begun", "log", "ended.json"
MOST_SECONDS = 40.0
"""Until a job that goes on in spite of its signal is killed."""


class Job:
    """A job that joins a cluster of its own, forked at once; its signal comes later."""

    def __init__(self, folder: Path, number: int, delay: float) -> None:
        self._folder, self._number = folder, number
        folder.mkdir(parents=True)
        self._pid = os.fork()
        if not self._pid:
            try:
                self._work()
            finally:
                os._exit(1)
        wait_until((folder / BEGUN).exists, "a job")
        self._when = time.monotonic() + delay
        self._is_told = self.has_ended = False

    def _work(self) -> None:
        os.setsid()
        log = os.open(self._folder / LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        run_job(self._main)

    def _main(self, _: Sequence[str]) -> None:
        settings = SimpleNamespace(lease_wait_minutes=0)
        config = cast(Any, SimpleNamespace(name="demo", cluster=settings))
        with hold(Store(self._folder / "store"), "relabel", config):
            (self._folder / BEGUN).touch()
            _cluster.connect(ClusterSettings())
            while True:
                time.sleep(0.1)

    def look(self) -> None:
        """Send the signal when its time has come, and note the end."""
        late = time.monotonic() - self._when
        if late < 0:
            return
        if not self._is_told:
            os.kill(self._pid, self._number)
            self._is_told = True
        if late > MOST_SECONDS:
            os.kill(self._pid, signal.SIGKILL)
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self.has_ended = True
            told = {"code": os.waitstatus_to_exitcode(status), "seconds": late}
            (self._folder / ENDED).write_text(json.dumps(told))
            with suppress(ProcessLookupError):  # what it started ends with it, or nearly
                os.killpg(self._pid, signal.SIGKILL)


def run(scratch: Path, words: Sequence[str]) -> None:
    """Run the jobs that the words ask for, all at once."""
    jobs = []
    for word in words:
        number, _, delay = word.partition(":")
        jobs.append(Job(scratch / word.replace(":", "-"), int(number), float(delay)))
    while jobs := [job for job in jobs if not job.has_ended]:
        for job in jobs:
            job.look()
        time.sleep(0.005)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
