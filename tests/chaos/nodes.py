"""A cluster of several nodes on one machine, whose processes and nodes can be killed."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from types import TracebackType
from typing import Self

import psutil

WORKER_NODES = 2
CPUS = 2


class Nodes(ABC):
    """A head of one CPU and workers; nodes are known by the process id of their raylet."""

    def __init__(self) -> None:
        self.environment = {
            "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> Self:
        self._before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        self.begin()
        self.heal()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

    @property
    @abstractmethod
    def address(self) -> str:
        """What jobs are to join."""

    @property
    def settings(self) -> list[str]:
        """Where jobs run, as their overrides."""
        return [f"cluster.address={self.address}"]

    @property
    @abstractmethod
    def head(self) -> int:
        """The head, which is never lost: it holds what the cluster knows."""

    @property
    @abstractmethod
    def workers(self) -> list[int]:
        """The nodes that can be lost."""

    @abstractmethod
    def begin(self) -> None:
        """Start the head."""

    @abstractmethod
    def add(self) -> None:
        """Start a worker."""

    @abstractmethod
    def remove(self, node: int) -> None:
        """SIGKILL a worker and all that runs on it."""

    @abstractmethod
    def end(self) -> None:
        """End all nodes."""

    def heal(self) -> None:
        """As many workers as there should be."""
        while len(self.workers) < WORKER_NODES:
            self.add()

    def lose(self, names: Sequence[str], random: Random) -> bool:
        """Kill a node on which a process of such a name runs; whether there was one."""
        nodes = [node for node in self.workers if working(node, names)]
        if nodes:
            self.remove(random.choice(sorted(nodes)))
        return bool(nodes)

    def kill(self, names: Sequence[str], random: Random) -> bool:
        """SIGKILL a process of such a name on any node; whether there was one."""
        found = [process for node in [self.head, *self.workers] for process in working(node, names)]
        if found:
            random.choice(sorted(found, key=lambda process: process.pid)).kill()
        return bool(found)

    def runs(self, names: Sequence[str]) -> bool:
        """Whether a process of such a name runs on a node that can be lost."""
        return any(working(node, names) for node in self.workers)


class NoNodes(Nodes):
    """This machine without Ray, for commands that use no cluster."""

    address, head = "no cluster", 0
    settings = ["cluster.executor=here"]  # noqa: RUF012  # never changed
    workers: list[int] = []  # noqa: RUF012

    def begin(self) -> None:
        """Nothing."""

    def add(self) -> None:
        """Nothing."""

    def remove(self, node: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def heal(self) -> None:
        """Nothing is lost."""


def working(node: int, names: Sequence[str]) -> list[psutil.Process]:
    """The workers of a node that do what is named so now."""
    begins = tuple(f"ray::{name}" for name in names)
    try:
        children = psutil.Process(node).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if _title(child).startswith(begins)]


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""
