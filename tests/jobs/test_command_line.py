"""Exit codes and messages of the jobs, run as a user runs them; none of these reaches Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dcsp.config.file import load_config
from dcsp.errors import ConfigError
from jobs._places import SUBMITTED, check_places, require_lasting
from tests.jobs.running import REPOSITORY, call

CONFIGS = sorted((REPOSITORY / "jobs" / "configs").glob("*.yaml"))
PAPER = [path for path in CONFIGS if path.stem in ("voc12_resnet101", "voc12_vgg16")]


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("relabel.py", ["store=x", "fcan.stpes=3"], "unknown setting 'fcan.stpes', did you mean"),
        ("ingest.py", ["store=x", "fcan.steps"], "The override 'fcan.steps' must look like"),
        ("relabel.py", ["store=x", "fcan.steps=none"], "fcan.steps='none': "),
        (
            "relabel.py",
            ["store={tmp}/x", "corpus.kind=folder", "corpus.root={tmp}/nowhere #1"],
            "corpus.root={tmp}/nowhere #1",
        ),
        ("relabel.py", ["store={tmp}/x", "network.weights={tmp}/no", "--dry-run"], "{tmp}/no"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_exit_code_2(
    config_file: Path, tmp_path: Path, job: str, arguments: list[str], message: str
) -> None:
    told = call(job, "--config", config_file, *(a.format(tmp=tmp_path) for a in arguments))
    _told_in_one_line(told, message.format(tmp=tmp_path))


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    told = call("relabel.py", "--config", tmp_path / "no.yaml", f"store={tmp_path}")
    _told_in_one_line(told, f"Cannot read the config {tmp_path / 'no.yaml'}")


def test_a_store_without_a_run_cannot_predict(tmp_path: Path) -> None:
    told = call("predict.py", "--store", tmp_path, "--images", tmp_path, "--out", tmp_path / "out")
    _told_in_one_line(told, "has no published run: run jobs/relabel.py first")


def test_a_missing_argument_is_the_users_mistake() -> None:
    told = call("train.py", "--config", "x.yaml")
    assert told.returncode == 2
    assert "--stage" in told.stderr


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("ingest.py", ["store=./lost"], "store=./lost lies in the folder that Ray runs"),
        (
            "ingest.py",
            ["store=/kept", "corpus.kind=voc", "corpus.root=photos"],
            "corpus.root=photos is not in the folder that Ray runs this submitted job in",
        ),
        (
            "compare.py",
            ["store={ray}/working_dir_files/_ray_pkg_1/s", "--grid", "fcan.steps=1,2"],
            "/working_dir_files/_ray_pkg_1/s lies in the folder that Ray runs",
        ),
    ],
)
def test_a_submitted_job_is_told_what_would_be_lost(
    config_file: Path, tmp_path: Path, job: str, arguments: list[str], message: str
) -> None:
    told = call(
        job,
        "--config",
        config_file,
        *(argument.format(ray=tmp_path) for argument in arguments),
        environment={SUBMITTED: "{}"},
    )
    _told_in_one_line(told, message)


def test_a_submitted_job_may_bring_its_images(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(config_file, ["store=s3://b/s", "corpus.kind=voc", "corpus.root=photos"])
    monkeypatch.chdir(tmp_path)
    check_places(config)  # a job on this machine finds out by itself
    monkeypatch.setenv(SUBMITTED, "{}")
    with pytest.raises(ConfigError, match=r"corpus\.root=photos is not in the folder"):
        check_places(config)
    with pytest.raises(ConfigError, match=r"--out=masks lies in the folder"):
        require_lasting("--out", "masks")
    (tmp_path / "photos").mkdir()
    check_places(config)


@pytest.mark.parametrize(("raised", "code"), [("1 / 0", 1), ("None", 0)])
def test_faults_have_exit_code_1_and_a_traceback(raised: str, code: int) -> None:
    program = f"from jobs._main import run_job; run_job(lambda _: {raised})"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert told.returncode == code
    assert ("Traceback" in told.stderr) == (code == 1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_of_the_repository_validate(path: Path) -> None:
    load_config(path, ["corpus.classes=[cat, dog]"] if path.stem == "folder" else [])


def test_only_the_user_knows_the_classes_of_a_folder() -> None:
    path = REPOSITORY / "jobs/configs/folder.yaml"
    told = call("relabel.py", "--config", path, "corpus.root=photos", "--dry-run")
    _told_in_one_line(told, "corpus.kind=folder needs corpus.classes")


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("ingest.py", ["--config=~/no.yaml"], "Cannot read the config {home}/no.yaml"),
        (
            "predict.py",
            ["--store=~/s", "--images=~", "--out=~/out"],
            "{home}/s has no published run",
        ),
        (
            "predict.py",
            ["--store=s", "--images=~", "--out=~no one/out"],
            "The path ~no one/out names a home folder that is not known",
        ),
    ],
)
def test_home_is_expanded_in_the_options_of_jobs(
    tmp_path: Path, job: str, arguments: list[str], message: str
) -> None:
    told = call(job, *arguments, environment={"HOME": str(tmp_path)})
    _told_in_one_line(told, message.format(home=tmp_path))
    assert not Path("~").exists()


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_configs_of_the_paper_dry_run_without_their_data(path: Path, tmp_path: Path) -> None:
    told = call("relabel.py", "--config", path, f"store={tmp_path / 'store'}", "--dry-run")
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    assert "joint_phase1" in told.stdout
    assert "predictions" in told.stdout
    assert not (tmp_path / "store").exists()


def _told_in_one_line(told: subprocess.CompletedProcess[str], message: str) -> None:
    assert told.returncode == 2, told.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], told.stderr
    assert told.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in told.stderr
