"""The same nodes in two ways: by Ray's own test cluster, and started as an operator does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.chaos.nodes import CPUS, Nodes
from tests.jobs.running import end, free_ports, wait_until

RAY = str(Path(sys.executable).with_name("ray"))
PORTS = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)
MEMORY = 200_000_000


class LibraryNodes(Nodes):
    """``ray.cluster_utils.Cluster``."""

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def head(self) -> int:
        return self._raylet(self._cluster.head_node)

    @property
    def workers(self) -> list[int]:
        return [self._raylet(node) for node in self._cluster.worker_nodes]

    def begin(self) -> None:
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": MEMORY}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)

    def add(self) -> None:
        self._cluster.add_node(num_cpus=CPUS, object_store_memory=MEMORY)

    def remove(self, node: int) -> None:
        (lost,) = (each for each in self._cluster.worker_nodes if self._raylet(each) == node)
        self._cluster.remove_node(lost, allow_graceful=False)

    def end(self) -> None:
        self._cluster.shutdown()

    @staticmethod
    def _raylet(node: Any) -> int:
        (info,) = node.all_processes["raylet"]
        return int(info.process.pid)


class StartedNodes(Nodes):
    """``ray start --head`` and ``ray start --address``, each the parent of what it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.environment["RAY_AUTH_MODE"] = "token"
        self._folder = Path("/tmp") / f"dcsp-nodes-{os.getpid()}"  # socket paths must be short
        self._port = free_ports(1)[0]
        self._head: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def head(self) -> int:
        assert self._head
        return _raylet_of(self._head)

    @property
    def workers(self) -> list[int]:
        return [_raylet_of(started) for started in self._started]

    def begin(self) -> None:
        where = ["--head", f"--port={self._port}", f"--temp-dir={self._folder}"]
        self._head = self._start(1, *where, "--include-dashboard=false")

    def add(self) -> None:
        self._started.append(self._start(CPUS, f"--address={self.address}"))

    def remove(self, node: int) -> None:
        (lost,) = (each for each in self._started if _raylet_of(each) == node)
        self._started.remove(lost)
        _end(lost)

    def end(self) -> None:
        for started in [*self._started, *([self._head] if self._head else [])]:
            _end(started)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, cpus: int, *arguments: str) -> subprocess.Popen[bytes]:
        ports = zip(PORTS, free_ports(len(PORTS)), strict=True)
        command = [RAY, "start", "--block", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        command += ["--disable-usage-stats", f"--object-store-memory={MEMORY}", *arguments]
        command += [f"--{name}={port}" for name, port in ports]
        log = self._folder.with_suffix(f".{len(self._started)}.log")
        with log.open("wb") as sink:
            started = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )

        def runs() -> bool:
            return "--block" in log.read_text() or started.poll() is not None

        try:
            wait_until(runs, "a node", seconds=120)
            assert started.poll() is None, log.read_text()
        except AssertionError:
            _end(started)
            raise
        finally:
            log.unlink()
        return started


def _raylet_of(started: subprocess.Popen[bytes]) -> int:
    children = psutil.Process(started.pid).children()
    return next((child.pid for child in children if child.name() == "raylet"), 0)


def _end(started: subprocess.Popen[bytes]) -> None:
    """SIGKILL a node: its raylet first, so that nobody starts what is killed again."""
    if started.poll() is not None:
        return
    parent = psutil.Process(started.pid)
    end([*parent.children(recursive=True), parent])
    started.wait(timeout=30)
