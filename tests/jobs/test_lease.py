"""Two jobs on one store at once: one works, the other says so; readers are not in the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.errors import StoreError
from dcsp.inspection.destination import PREDICT, mark_folder
from dcsp.store.lease import LEASE, Holder, Lease
from dcsp.store.store import Store
from jobs import compare, evaluate, ingest, mine_cues, predict, relabel, train
from tests.jobs.running import PATIENCE, REPOSITORY, Run, Submitted, call, parts
from tests.store_fixture import build_store

JOBS: list[tuple[Callable[[Sequence[str]], None], list[str]]] = [
    (relabel.main, []),
    (ingest.main, []),
    (mine_cues.main, ["--phase", "0"]),
    (train.main, ["--stage", "fcan"]),
    (evaluate.main, []),
    (compare.main, ["--grid", "cues.dcsp.gamma_low=0.2,0.4"]),
]
WAITING = """
import sys, time
from types import SimpleNamespace
from dcsp.store import lease
from dcsp.store.store import Store
from jobs._lease import hold
from jobs._main import run_job

def main(arguments):
    config = SimpleNamespace(name="demo", cluster=SimpleNamespace(lease_wait_minutes=0))
    with hold(Store(arguments[0]), "relabel", config):
        print("holds", flush=True)
        time.sleep(300)

lease.Lease.__init__.__defaults__ = (1.0, *lease.Lease.__init__.__defaults__[1:])
run_job(main)
"""


@pytest.mark.parametrize(("main", "more"), JOBS, ids=lambda value: getattr(value, "__module__", ""))
def test_every_job_that_writes_is_refused_while_another_works(
    config_file: Path, tmp_path: Path, main: Callable[[Sequence[str]], None], more: list[str]
) -> None:
    store = Store(tmp_path / "store")
    with (
        Lease(store, "relabel", "demo"),
        pytest.raises(
            StoreError, match=r"^Another job \(relabel of demo on .*: wait for it to end"
        ),
    ):
        main(["--config", str(config_file), f"store={store.url}", *more])
    assert store.list("") == []


def test_commands_that_read_take_no_notice(tmp_path: Path) -> None:
    store = build_store(tmp_path / "store")
    with Lease(store, "relabel", "demo"):
        for command in ("show", "verify", "report"):
            told = CliRunner().invoke(app, [command, store.url])
            assert told.exit_code == 0, told.output
        told = CliRunner().invoke(app, ["rejected", store.url, "--replay"])
        assert told.exit_code == 2 and "Another job" in told.output, "this one changes the store"


@pytest.mark.parametrize("job", ["finds another one", "is interrupted by the user"])
def test_a_job_that_loses_its_lease_ends_and_says_why(tmp_path: Path, job: str) -> None:
    store = Store(tmp_path / "store")
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, store.url],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        other = Holder.here("ingest", "other", 300)
        if job == "finds another one":
            store.write_bytes(LEASE, other.to_bytes())
        else:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    if job == "finds another one":
        assert process.returncode == 2
        assert said.splitlines()[-1].startswith("error: This job was away for too long and lost")
        assert "to another job (ingest of other on " in said and "Traceback" not in said
        assert store.read_bytes(LEASE) == other.to_bytes()
    else:
        assert process.returncode == 130 and not store.exists(LEASE)


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_of_two_relabel_jobs_one_works_and_the_other_exits_with_2(
    finished: Run, no_cluster: None, tmp_path: Path
) -> None:
    run = finished.with_corpus(tmp_path / "store")
    submission = ["--config", run.config_file, f"store={run.store}", "--until", "saliency"]
    with Submitted(tmp_path / "first.log", *submission) as first:
        first.wait_for(lambda: (run.store / LEASE).exists(), "the lease")
        started = time.monotonic()
        second = call("relabel.py", *submission)
        seconds = time.monotonic() - started
        assert second.returncode == 2, second.stderr
        said = second.stderr.splitlines()[-1]
        assert said.startswith("error: Another job (relabel of tiny on ")
        assert f"pid {first.process.pid}, since" in said and "Traceback" not in second.stderr
        assert "node(s)" not in second.stderr and seconds < 60
        assert first.process.wait(timeout=PATIENCE) == 0, first.log.read_text()
    assert parts(run.table("saliency")) == parts(finished.table("saliency")) != {}
    assert not (run.store / LEASE).exists()

    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.new("RGB", (32, 32)).save(images / "a.png")
    arguments = [str(finished.store), "--images", str(images), "--out", str(out)]
    mark_folder(PREDICT, Store(out), {})  # as the other one has
    told = r"^Another job \(predict of tiny on "
    with Lease(Store(out), "predict", "tiny"), pytest.raises(StoreError, match=told):
        predict.main(arguments)
