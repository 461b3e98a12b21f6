"""A job that is killed and submitted again leaves what an undisturbed one leaves."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsp.store.store import Store
from tests.jobs.running import (
    PATIENCE,
    Run,
    Submitted,
    call,
    family,
    name_of,
    parts,
    resumable_checkpoints,
    wait_until_gone,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def fresh(finished: Run, no_cluster: None, tmp_path: Path) -> Iterator[Run]:
    """A store with the tiny corpus alone, and no other cluster of ours."""
    yield finished.with_corpus(tmp_path / "store")


@pytest.mark.slow  # a driver that is killed: test_predict.py; a training's worker: test_failures.py
def test_a_driver_killed_while_mining_and_while_training_resumes(
    finished: Run, fresh: Run, tmp_path: Path
) -> None:
    submission = ["--config", fresh.config_file, f"store={fresh.store}", "fcan.checkpoint_every=1"]
    submission += ["--until", "cues_phase0"]
    fcan = fresh.plan().step("fcan").stage.key
    saliency = fresh.store / fresh.plan().step("saliency").stage.key.directory

    with Submitted(tmp_path / "mining.log", *submission) as job:
        started = job.kill_once(lambda: parts(saliency), "the first part of saliency")
    left = {path: path.stat().st_mtime_ns for path in saliency.glob("*.parquet")}
    assert 1 <= len(left) <= 4
    assert not list(saliency.glob("complete-*.json"))

    with Submitted(tmp_path / "training.log", *submission) as job:
        started += job.kill_once(
            lambda: resumable_checkpoints(fresh.store, fcan.fingerprint), "the first checkpoint"
        )
    assert {path: path.stat().st_mtime_ns for path in left} == left, "parts are made once"
    assert not (fresh.store / fcan.directory / "complete.json").exists()

    done = call("relabel.py", *submission)
    assert done.returncode == 0, done.stderr
    assert "saliency: done before" in done.stderr
    for title in ("saliency", "cues_phase0"):
        assert parts(fresh.table(title)) == parts(finished.table(title)) != {}, title
    history = json.loads((fresh.store / fcan.directory / "history.json").read_text())
    assert history == json.loads((finished.table("fcan") / "history.json").read_text())
    complete = Store(fresh.store).read_json(f"{fcan.directory}/complete.json")
    assert complete["restarts"], "it went on from a checkpoint"
    assert not (fresh.store / "checkpoints/resumable" / fcan.fingerprint).exists()
    wait_until_gone(started)
    assert not [path for path in fresh.store.rglob(".tmp-*") if path.stat().st_size == 0]


@pytest.mark.slow  # signals on Ray: test_endings.py
def test_ctrl_c_during_training_says_how_to_go_on(fresh: Run, tmp_path: Path) -> None:
    fcan = fresh.plan("fcan.steps=500").step("fcan").stage.key
    submission = ["--config", fresh.config_file, f"store={fresh.store}", "fcan.steps=500"]
    with Submitted(tmp_path / "log", *submission, "fcan.checkpoint_every=1") as job:
        job.wait_for(
            lambda: resumable_checkpoints(fresh.store, fcan.fingerprint), "the first checkpoint"
        )
        members = family(job.process)
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait(timeout=PATIENCE) == 130
        assert job.log.read_text().splitlines()[-1] == "interrupted; submit the job again to resume"
        assert "Traceback" not in job.log.read_text()
        wait_until_gone([member for member in members if "Agent" not in name_of(member)])
