"""Every cue method that is killed in stages of its own leaves what an undisturbed run leaves."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from dcsp.stages.step import Step
from jobs import _cluster, relabel
from tests.jobs.running import Run, Submitted, call, parts, resumable_checkpoints

STEPS = "steps: 3, batch: 4, crop: 64, checkpoint_every: 1"
KILLS = {
    "builtin": (["cues.method=builtin", "saliency.detectors=[]"], ["foreground"]),
    "affinity": (
        ["cues.method=affinity", f"cues.affinity.train={{{STEPS}}}"],
        ["cues_areas", "affinity", "cues_phase0"],
    ),
    "dcsp refined by affinity": (
        ["cues.refine=affinity", f"cues.affinity.train={{{STEPS}}}"],
        ["cues_start", "affinity"],
    ),
    "mcof": (
        ["cues.method=mcof", "cues.mcof.rounds=1", f"cues.mcof.train={{{STEPS}}}"],
        ["superpixels", "cues_seeds0", "regions_phase0", "cues_phase0"],
    ),
}


@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.slow  # tests/jobs/test_resume.py kills the stages that every method has
@pytest.mark.parametrize("method", KILLS)
def test_a_method_killed_in_its_own_stages_resumes(
    finished: Run, tmp_path: Path, method: str
) -> None:
    overrides, titles = KILLS[method]
    whole = finished.with_corpus(tmp_path / "whole")
    fresh = finished.with_corpus(tmp_path / "store")
    submission = ["--config", str(finished.config_file), *overrides, "--until", "cues_phase0"]
    with contextlib.redirect_stderr(io.StringIO()):
        relabel.main([*submission, f"store={whole.store}"])
    _cluster.disconnect()

    for title in titles:
        step = fresh.plan(*overrides).step(title)
        with Submitted(tmp_path / f"{title}.log", *submission, f"store={fresh.store}") as job:
            job.kill_once(lambda step=step: begun(fresh, step), f"a piece of {title}")
    done = call("relabel.py", *submission, f"store={fresh.store}")
    assert done.returncode == 0, done.stderr

    compared = 0
    for step in fresh.plan(*overrides).until("cues_phase0"):
        directory = step.stage.key.directory
        if step.stage.learns:
            history = [
                (run.store / directory / "history.json").read_text() for run in (fresh, whole)
            ]
            assert history[0] == history[1], step.title
        else:
            made = parts(fresh.store / directory)
            assert made == parts(whole.store / directory) != {}, step.title
            compared += len(made)
    assert compared >= 8


def begun(run: Run, step: Step) -> bool:
    """Whether the first piece of a step is in the store."""
    if step.stage.learns:
        return resumable_checkpoints(run.store, step.stage.key.fingerprint)
    return bool(parts(run.store / step.stage.key.directory))
