"""A job that does one step asks for exactly what that step reads; and jobs run without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dcsp.errors import StoreError
from jobs import evaluate, mine_cues, train
from tests.jobs.running import REPOSITORY
from tests.jobs.tiny import write_config, write_detector

HERE = ["cluster.executor=here", "cluster.use_gpu=false"]
AFFINITY = ["cues.method=affinity", "cues.adapt.rounds=0", "cues.affinity.attention.scales=[1]"]
QUICK = ["fcan.steps=2", "cues.affinity.train.steps=2", "cues.affinity.train.crop=64"]


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """The command line of the tiny run on a store of its own."""
    config = write_config(tmp_path / "tiny.yaml", write_detector(tmp_path / "brightness.onnx"))
    return ["--config", str(config), f"store={tmp_path / 'store'}", *HERE, *QUICK]


def test_a_helper_network_is_trained_with_all_that_it_learns_from(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    once = [*tiny, *AFFINITY]
    with pytest.raises(StoreError, match=r"fcan .* is not done .* `dcsp train --stage fcan` "):
        train.main([*once, "--stage", "affinity"])
    train.main([*once, "--stage", "fcan"])
    with pytest.raises(StoreError, match=r"affinity .* run `dcsp train --stage affinity` "):
        mine_cues.main(once)
    assert "cues_start" not in capsys.readouterr().err, "it is refused before any work"
    train.main([*once, "--stage", "affinity"])
    told = capsys.readouterr()
    assert "cues_start: " in told.err and "cues_areas: " in told.err
    assert "checkpoint: " in told.out
    mine_cues.main(once)
    assert "cues: " in capsys.readouterr().out
    with pytest.raises(StoreError, match=r"joint_phase0 .* run `dcsp relabel` "):
        evaluate.main(once)


def test_what_a_step_does_not_read_is_not_asked_for(
    tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    once = [*tiny, "joint.steps=2"]
    with pytest.raises(StoreError, match=r"dcsp train --stage fcan"):
        train.main([*once, "--stage", "joint_phase0"])
    train.main([*once, "--stage", "fcan"])
    assert "saliency" not in capsys.readouterr().err, "no loss of the FCAN's needs it"
    with pytest.raises(StoreError, match=r"cues_phase0 .* `dcsp mine --phase 0` "):
        train.main([*once, "--stage", "joint_phase0"])
    mine_cues.main(once)
    train.main([*once, "--stage", "joint_phase0"])
    capsys.readouterr()
    with pytest.raises(StoreError, match=r"cues_phase1 .* `dcsp mine --phase 1` "):
        train.main([*once, "--stage", "joint_phase1"])
    mine_cues.main([*once, "--phase", "1"])
    assert "cues_phase1: " in capsys.readouterr().err


def test_the_whole_chain_runs_where_ray_is_not_there(tiny: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from jobs import relabel\n"
        "relabel.main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", script, *tiny, "joint.steps=2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout and "is published" in done.stderr
    (run,) = (tmp_path / "store/runs").iterdir()
    steps = yaml.safe_load((run / "run.json").read_text())["steps"]
    roles = [(step["role"], step["phase"]) for step in steps]
    assert roles == [
        ("maps", None),
        ("fcan", None),
        ("cues", 0),
        ("joint", 0),
        ("cues", 1),
        ("joint", 1),
        ("predictions", None),
        ("trust", None),
    ]
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "nothing to do" in again.stderr
