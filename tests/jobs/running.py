"""Running jobs as a user does, and looking at what they leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dcsp.config import RunConfig
from dcsp.config.file import load_config
from dcsp.corpus.listing import list_corpus
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 600.0
"""Seconds a job of the tiny run may take on a busy machine."""


@dataclass(frozen=True)
class Run:
    """A run that has ended: its store, its config file, and what it printed."""

    store: Path
    config_file: Path
    out: str
    err: str

    @property
    def run_id(self) -> str:
        return (self.store / "CURRENT").read_text().strip()

    @property
    def directory(self) -> Path:
        return self.store / "runs" / self.run_id

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "metrics.json").read_text()))

    def config(self, *overrides: str) -> RunConfig:
        """Its config, with ``store`` set."""
        return load_config(self.config_file, [f"store={self.store}", *overrides])

    def plan(self, *overrides: str) -> Plan:
        """Its plan; the corpus must have been ingested."""
        config = self.config(*overrides)
        store = Store(config.store)
        known = list_corpus(store, config.corpus, config.seed).known()
        assert known is not None
        return build_plan(config, known[0])

    def table(self, title: str) -> Path:
        """Directory of one of its tables or checkpoints."""
        return self.store / self.plan().step(title).stage.key.directory

    def with_corpus(self, store: Path) -> Run:
        """The same run in a new store that holds the ingested corpus and no more."""
        for name in ("corpus", "truth"):
            shutil.copytree(self.store / name, store / name)
        return Run(store, self.config_file, "", "")


def parts(directory: Path) -> dict[str, bytes]:
    """Name → content of the parts of a table."""
    return {file.name: file.read_bytes() for file in sorted(directory.glob("*.parquet"))}


def states(store: Path) -> dict[str, tuple[int, int]]:
    """File → inode and time of change of every file below a store."""
    files = (file for file in store.rglob("*") if file.is_file())
    return {str(f.relative_to(store)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def start(
    job: str, *arguments: object, environment: Mapping[str, str] | None = None, log: Path
) -> subprocess.Popen[str]:
    """Start a job in a process of its own; what it prints goes to a file."""
    command = _command(job, *arguments)
    with log.open("w") as sink:
        return subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def call(
    job: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a job to its end."""
    return subprocess.run(
        _command(job, *arguments),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _command(job: str, *arguments: object) -> list[str]:
    """A job by the name of its script, or a command of ``dcsp``."""
    script = [job] if job.endswith(".py") else ["cli.py", job]
    script[0] = str(REPOSITORY / "jobs" / script[0])
    return [sys.executable, *script, *map(str, arguments)]


def wait_until(holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll often until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.01)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all that it has started."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    """Until processes have ended, whether or not somebody has asked how."""

    def alive() -> list[str]:
        return [name for name in map(name_of, processes) if name]

    wait_until(lambda: not alive(), f"the end of {alive()}", seconds=120)


def name_of(process: psutil.Process) -> str:
    """Name of a process, empty when it has ended."""
    try:
        ended = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        return "" if ended else process.name()
    except psutil.NoSuchProcess:
        return ""


def end(processes: Sequence[psutil.Process]) -> None:
    """End processes that may have ended already."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=30)


class Submitted:
    """A job in a process that is ended with all it started, whatever becomes of the test."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self.log = log
        self.process: subprocess.Popen[str] = start("relabel.py", *arguments, log=log)
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Submitted:
        return self

    def __exit__(self, *_: object) -> None:
        end(sorted(self._seen, key=lambda process: process.pid))
        if self.process.poll() is None:
            end(family(self.process))
            self.process.wait(timeout=30)

    def wait_for(self, holds: Callable[[], object], what: str) -> None:
        """Until something holds while the job still runs."""
        self._poll(holds, what)
        self._seen |= set(family(self.process))

    def kill_once(self, holds: Callable[[], object], what: str) -> list[psutil.Process]:
        """SIGKILL the driver alone, as soon as something holds: its own processes must follow.

        It is stopped first: listing what it started takes long enough for a stage to end.

        Returns:
            All that it had started: Ray's agents look after their parent only now and then.
        """
        self._poll(holds, what)
        self.process.send_signal(signal.SIGSTOP)
        members = family(self.process)[1:]
        self._seen |= set(members)
        self.process.kill()
        self.process.wait(timeout=30)
        wait_until_gone([member for member in members if "Agent" not in name_of(member)])
        return members

    def _poll(self, holds: Callable[[], object], what: str) -> None:
        wait_until(lambda: self.process.poll() is not None or holds(), what)
        assert self.process.poll() is None, f"ended before {what}:\n{self.log.read_text()}"


def resumable_checkpoints(store: Path, fingerprint: str) -> bool:
    """Whether Ray has noted a checkpoint of a training: one that it has not noted yet is lost."""
    state = store / "checkpoints/resumable" / fingerprint
    try:
        return "checkpoint_" in (state / "checkpoint_manager_snapshot.json").read_text()
    except FileNotFoundError:
        return False
