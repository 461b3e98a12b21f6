"""A job that is told to end, or that nobody reads any more, says so in a line and holds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError
from dcsp.store.lease import LEASE, Holder
from dcsp.store.store import Store
from jobs import _cluster
from jobs._cluster import connection
from tests.jobs import starting
from tests.jobs.running import PATIENCE, REPOSITORY, Submitted, parts

JOB = """
import sys, time
from types import SimpleNamespace
from dcsp.store.store import Store
from jobs._lease import hold
from jobs._main import run_job

def main(arguments):
    config = SimpleNamespace(name="demo", cluster=SimpleNamespace(lease_wait_minutes=5))
    with hold(Store(arguments[0]), "relabel", config):
        while True:
            print("works \u2013 on \\udc80.jpg", flush=True)
            time.sleep(0.1)

run_job(main)
"""
ENDINGS = {
    signal.SIGINT: "interrupted; submit the job again to resume",
    signal.SIGTERM: "ended by SIGTERM; submit the job again to resume",
    signal.SIGHUP: "ended by SIGHUP; submit the job again to resume",
}


def begin(store: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(store)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_ends_a_job_in_one_line_and_gives_the_lease_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    with begin(tmp_path / "store") as job:
        assert job.stdout is not None and job.stdout.readline()
        assert (tmp_path / "store" / LEASE).exists()
        job.send_signal(number)
        job.send_signal(number)  # as a shell and its group do
        _, said = job.communicate(timeout=PATIENCE)
    assert job.returncode == 128 + number, said
    assert said.splitlines() == [ENDINGS[number]]
    assert not (tmp_path / "store" / LEASE).exists()


def test_a_signal_ends_a_job_that_waits_for_another(tmp_path: Path) -> None:
    other = Holder.here("ingest", "other", 300).to_bytes()
    store = Store(tmp_path / "store")
    store.write_bytes(LEASE, other)
    with begin(tmp_path / "store") as job:
        assert job.stderr is not None
        assert "waiting for another job" in job.stderr.readline()
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=PATIENCE)
    assert (job.returncode, said) == (143, f"{ENDINGS[signal.SIGTERM]}\n")
    assert store.read_bytes(LEASE) == other


def test_a_job_whose_output_nobody_reads_ends_in_one_line(tmp_path: Path) -> None:
    with begin(tmp_path / "store") as job:
        assert job.stdout is not None and job.stderr is not None and job.stdout.readline()
        job.stdout.close()  # as head does
        said = job.stderr.read()
        assert job.wait(timeout=PATIENCE) == 141, said
    assert said == "nobody reads what this job prints; submit the job again to resume\n"
    assert not (tmp_path / "store" / LEASE).exists()


def test_a_terminal_without_a_letter_shows_it_escaped(tmp_path: Path) -> None:
    with begin(tmp_path / "store", PYTHONIOENCODING="ascii") as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "works \\u2013 on \\udc80.jpg\n"
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=PATIENCE)
    assert job.returncode == 143


LOSING = """
import os, signal, sys, time
from types import SimpleNamespace
from dcsp.store.store import Store
from jobs import _ending
from jobs._lease import hold
from jobs._main import run_job

_ending.GRACE = 3.0

class Destroyed:
    def __del__(self):
        tell()

def tell():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)

def main(arguments):
    store, way = arguments
    config = SimpleNamespace(name="demo", cluster=SimpleNamespace(lease_wait_minutes=0))
    with hold(Store(store), "relabel", config):
        if way == "a destructor":
            Destroyed()
        elif way == "another handler":
            handler = signal.signal(signal.SIGTERM, lambda *_: None)
            tell()
            signal.signal(signal.SIGTERM, handler)
        else:
            try:
                tell()
            except BaseException:
                pass
        time.sleep(60)

run_job(main)
"""


@pytest.mark.parametrize("way", ["a destructor", "another handler", "an except of all"])
def test_a_signal_that_is_lost_by_the_way_ends_the_job(tmp_path: Path, way: str) -> None:
    """As Ray does while it starts, mostly in hooks of the forks of its processes."""
    store = tmp_path / "store"
    command = [sys.executable, "-c", LOSING, str(store), way]
    since = time.monotonic()
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (143, f"{ENDINGS[signal.SIGTERM]}\n")
    assert time.monotonic() - since < 40 and not (store / LEASE).exists()


def stop(job: Submitted, number: signal.Signals, store: Path) -> None:
    """Send a signal to the job's process, and look at how it ends."""
    job.process.send_signal(number)
    code = job.process.wait(timeout=PATIENCE)
    said = job.log.read_text()
    assert code == 128 + number, said
    assert said.splitlines()[-1] == ENDINGS[number] and "Traceback" not in said
    assert "*** SIG" not in said and "Fatal" not in said  # of C++
    assert not (store / LEASE).exists()


@pytest.mark.timeout(1200)
def test_each_stage_ends_by_a_signal(config_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    submission = ["--config", config_file, f"store={store}", "cluster.executor=here"]
    submission += ["corpus.scenes.train=200", "fcan.steps=4000", "fcan.checkpoint_every=1"]
    begun = {
        "ingest": lambda: parts(store / "corpus/parts"),
        "saliency": lambda: next(store.glob("saliency/*/*.parquet"), None),
        "fcan": lambda: next(store.glob("checkpoints/resumable/*/*"), None),
    }
    for stage, is_at_work in begun.items():
        with Submitted(tmp_path / f"{stage}.log", *submission) as job:
            job.wait_for(is_at_work, stage)
            stop(job, signal.SIGTERM, store)


@pytest.mark.parametrize("folder", ["long", "foreign"])
def test_a_temporary_folder_that_ray_cannot_use_is_told_in_one_line(
    no_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / ("x" * 100) if folder == "long" else tmp_path / "file" / "ray"
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    with pytest.raises(ClusterError, match=r"^Ray cannot use its temporary folder .*RAY_TMPDIR"):
        _cluster.connect(ClusterSettings())


def test_the_folder_of_a_local_cluster_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = Path(connection.own_folder())
    folder.chmod(0o777)  # as whoever came before may have left it
    assert Path(connection.own_folder()) == folder and folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="another account"):
        connection.own_folder()


@pytest.mark.cluster
def test_all_of_a_local_cluster_lies_in_the_private_folder(cluster: object) -> None:
    assert Path(ray.get_runtime_context().get_temp_dir()) == Path(connection.own_folder())


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_signal_ends_a_job_on_ray_while_it_works(
    config_file: Path, no_cluster: None, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    submission = ["--config", config_file, f"store={store}", "fcan.steps=500"]
    submission += ["fcan.checkpoint_every=1"]
    with Submitted(tmp_path / "training.log", *submission) as job:
        job.wait_for(lambda: next(store.glob("checkpoints/resumable/*/*"), None), "fcan")
        stop(job, signal.SIGTERM, store)


MANY = [(number, 0.4 * n + 0.13 * m) for n in range(20) for m, number in enumerate(ENDINGS)]


@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "moments",
    [
        [(signal.SIGTERM, 0.1), (signal.SIGTERM, 0.6), (signal.SIGINT, 1.2), (signal.SIGTERM, 2.0)],
        *(pytest.param(MANY[n : n + 4], marks=pytest.mark.slow) for n in range(0, len(MANY), 4)),
    ],
)
def test_a_signal_ends_a_job_while_ray_starts(
    no_cluster: None, tmp_path: Path, moments: list[tuple[signal.Signals, float]]
) -> None:
    words = [f"{number:d}:{delay:.2f}" for number, delay in moments]
    command = [sys.executable, "-m", "tests.jobs.starting", str(tmp_path), *words]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=PATIENCE)
    for word, (number, _) in zip(words, moments, strict=True):
        folder = tmp_path / word.replace(":", "-")
        told = json.loads((folder / starting.ENDED).read_text())
        said = (folder / starting.LOG).read_text()
        assert (told["code"], said) == (128 + number, f"{ENDINGS[number]}\n"), word
        assert told["seconds"] < 30 and not (folder / "store" / LEASE).exists(), word
