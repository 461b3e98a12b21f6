"""A cluster of several nodes, on one machine, whose processes and nodes can be killed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from random import Random
from types import TracebackType

import psutil
from ray.cluster_utils import Cluster

WORKER_NODES = 2
CPUS = 2


class Nodes:
    """A head without a job's work, as its one CPU is asked for by nobody, and workers."""

    def __enter__(self) -> Nodes:
        self.environment = {
            "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        }
        self.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        self._before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        head = {"num_cpus": 1, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.heal()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.shutdown()
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

    @property
    def address(self) -> str:
        """What jobs are to join."""
        return str(self._cluster.address)

    def heal(self) -> None:
        """As many workers as there should be."""
        while len(self._cluster.worker_nodes) < WORKER_NODES:
            self._cluster.add_node(num_cpus=CPUS)
        self._cluster.wait_for_nodes()

    def lose(self, names: Sequence[str], random: Random) -> bool:
        """Kill a node on which a process of such a name runs; whether there was one."""
        nodes = [node for node in self._cluster.worker_nodes if _of(_raylet(node), names)]
        if not nodes:
            return False
        self._cluster.remove_node(random.choice(sorted(nodes, key=_raylet)), allow_graceful=False)
        return True

    def kill(self, names: Sequence[str], random: Random) -> bool:
        """SIGKILL a process of such a name on any node; whether there was one."""
        everywhere = [self._cluster.head_node, *self._cluster.worker_nodes]
        found = [process for node in everywhere for process in _of(_raylet(node), names)]
        if not found:
            return False
        random.choice(sorted(found, key=lambda process: process.pid)).kill()
        return True

    def runs(self, names: Sequence[str]) -> bool:
        """Whether a process of such a name runs on a node that can be lost."""
        return any(_of(_raylet(node), names) for node in self._cluster.worker_nodes)


def _raylet(node: object) -> int:
    """Process id of a node's raylet, the parent of all its workers."""
    (info,) = node.all_processes["raylet"]  # type: ignore[attr-defined]
    return int(info.process.pid)


def _of(raylet: int, names: Sequence[str]) -> list[psutil.Process]:
    """The workers of a node that do what is named so now."""
    begins = tuple(f"ray::{name}" for name in names)
    try:
        children = psutil.Process(raylet).children(recursive=True)
        return [child for child in children if _title(child).startswith(begins)]
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""
