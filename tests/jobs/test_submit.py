"""``ray job submit`` to a head with token authentication, as on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.store.store import Store
from dcsp.tables.layout import HISTORY_FILE
from tests.jobs.running import REPOSITORY, Run, end, free_ports, parts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

TOKEN = "0f" * 32
RAY = str(Path(sys.executable).with_name("ray"))
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


@dataclass(frozen=True)
class Head:
    """A started head: its dashboard, where jobs are submitted to."""

    dashboard: str

    def submit(
        self, *entrypoint: object, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Submit a job and wait for its end."""
        command = [RAY, "job", "submit", "--address", self.dashboard]
        command += ["--working-dir", str(REPOSITORY)]
        command += ["--runtime-env-json", '{"excludes": [".git", ".venv", "tests", "*.parquet"]}']
        return _run([*command, "--", sys.executable, *map(str, entrypoint)], environment)


def _run(
    command: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, **(ENVIRONMENT if environment is None else environment)}
    known["PATH"] = f"{Path(sys.executable).parent}:{known['PATH']}"
    return subprocess.run(
        command, env=known, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def head(no_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head with four logical CPUs on ports of its own; ended by process id."""
    folder = Path("/tmp") / f"dcsp-{os.getpid()}"  # socket paths must be short
    ports = free_ports(8)
    names = ["port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["runtime-env-agent-port", "node-manager-port", "object-manager-port"]
    names += ["ray-client-server-port"]
    command = [RAY, "start", "--head", "--num-cpus=4", "--dashboard-host=127.0.0.1"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    command += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    command += ["--disable-usage-stats", "--object-store-memory=200000000"]
    try:
        started = _run(command)
        assert started.returncode == 0, started.stdout + started.stderr
        yield Head(f"http://127.0.0.1:{ports[1]}")
    finally:
        end(_of(folder))
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def _of(folder: Path) -> list[psutil.Process]:
    """The processes of one cluster, known by its folder, and their children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()):
            for member in [process, *process.children(recursive=True)]:
                found[member.pid] = member
    found.pop(os.getpid(), None)
    return list(found.values())


def test_the_same_script_runs_as_a_submitted_job(finished: Run, head: Head, tmp_path: Path) -> None:
    run = finished.with_corpus(tmp_path / "store")
    job = ["jobs/relabel.py", "--config", run.config_file]
    done = head.submit(*job, f"store={run.store}", "--until", "cues_phase0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "saliency: 16 ok" in done.stdout and "cues_phase0: 12 ok" in done.stdout
    assert "cluster: 1 node(s), 4 CPUs" in done.stdout, "it joined the head"
    assert parts(run.table("saliency")) == parts(finished.table("saliency")) != {}

    network = load_checkpoint(
        Store(run.store), f"checkpoints/{run.table('fcan').name}", SegmentationNetwork
    )
    assert all(bool(values.isfinite().all()) for values in network.parameters())
    history = json.loads((run.table("fcan") / HISTORY_FILE).read_text())
    assert [entry["step"] for entry in history] == list(range(1, 13)), "each step once"
    assert not list(run.store.glob("checkpoints/resumable/*")), "nothing is left to resume"
    assert set(parts(run.table("cues_phase0"))) == set(parts(finished.table("cues_phase0")))

    wrong = head.submit(*job, f"store={run.store}", "fcan.stpes=1")
    assert wrong.returncode != 0
    assert "unknown setting 'fcan.stpes'" in wrong.stdout
    assert "Traceback" not in wrong.stdout

    lost = head.submit(*job, "store=./my-store")
    assert lost.returncode != 0 and "Traceback" not in lost.stdout
    assert "store=./my-store lies in the folder that Ray runs this submitted job in" in lost.stdout

    started = time.monotonic()
    nobody = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    for environment in (nobody, {**ENVIRONMENT, "RAY_AUTH_TOKEN": "00" * 32}):
        refused = head.submit("-c", "print('came in')", environment=environment)
        assert refused.returncode != 0
        assert "came in" not in refused.stdout
        said = (refused.stdout + refused.stderr).lower()
        assert "unauthorized" in said or "forbidden" in said or "token" in said, said
    assert time.monotonic() - started < 300
