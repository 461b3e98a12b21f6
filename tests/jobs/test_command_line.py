"""Exit codes and messages of the jobs; none of these reaches Ray.

How a mistake is told is tried with processes of their own, what is told by calling ``main``.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcsp.config.file import load_config
from dcsp.errors import ConfigError, DcspError
from dcsp.progress import JsonLines
from jobs import relabel
from jobs._places import SUBMITTED, check_places, require_lasting
from jobs._watch import PATIENT_THREADS
from tests.jobs.running import REPOSITORY, call

CONFIGS = sorted((REPOSITORY / "jobs" / "configs").glob("*.yaml"))
PAPER = [path for path in CONFIGS if path.stem in ("voc12_resnet101", "voc12_vgg16")]


def test_threads_of_a_job_do_not_spin_while_they_wait() -> None:
    """A second process on the same cores would cost several times the work."""
    program = (
        "import os, sys; from jobs._main import run_job\n"
        "def main(_): assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])\n"
        "run_job(main)"
    )
    for given, told in ((None, "passive"), ("active", "active")):
        variables = {k: v for k, v in os.environ.items() if k not in PATIENT_THREADS}
        variables |= {"OMP_WAIT_POLICY": given} if given else {}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=variables, cwd=REPOSITORY, capture_output=True
        )
        assert ended.stdout.decode().strip() == told, ended.stderr


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("relabel", ["store=x", "fcan.stpes=3"], "unknown setting 'fcan.stpes', did you mean"),
        ("ingest", ["store=x", "fcan.steps"], "The override 'fcan.steps' must look like"),
        ("relabel", ["store=x", "fcan.steps=none"], "fcan.steps='none': "),
        (
            "relabel",
            ["store={tmp}/x", "corpus.kind=folder", "corpus.root={tmp}/nowhere #1"],
            "corpus.root={tmp}/nowhere #1",
        ),
        ("relabel", ["store={tmp}/x", "network.weights={tmp}/no", "--dry-run"], "{tmp}/no"),
    ],
)
def test_a_mistake_is_told_with_what_was_written(
    config_file: Path, tmp_path: Path, job: str, arguments: list[str], message: str
) -> None:
    given = (argument.format(tmp=tmp_path) for argument in arguments)
    with pytest.raises(DcspError, match=re.escape(message.format(tmp=tmp_path))):
        _main(job)(["--config", str(config_file), *given])


def test_a_mistake_is_told_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    told = call("relabel.py", "--config", tmp_path / "no.yaml", f"store={tmp_path}")
    _told_in_one_line(told, f"Cannot read the config {tmp_path / 'no.yaml'}")


def test_a_store_without_a_run_cannot_predict(tmp_path: Path) -> None:
    arguments = [tmp_path, "--images", tmp_path, "--out", tmp_path / "out"]
    with pytest.raises(DcspError, match=r"has no published run: run `dcsp relabel` first"):
        _main("predict")([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("train", ["--config", "x.yaml"], "Missing option '--stage' (dcsp train --help says"),
        ("relabel", ["--config", "x.yaml", "--untli", "fcan"], "No such option: --untli"),
        (
            "mine_cues",
            ["--config", "x.yaml", "--phase", "one"],
            "Invalid value for '--phase'",
        ),
        ("predict", ["--images", "a", "--out", "b"], "Missing argument 'STORE'"),
        ("relabel", ["--config", "fodler"], "There is no config 'fodler': name a file, or one of"),
    ],
)
def test_arguments_that_are_none_are_the_users_mistake(
    job: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        _main(job)(arguments)


def test_help_is_printed_and_nothing_done(capsys: pytest.CaptureFixture[str]) -> None:
    _main("plan")(["--help"])
    told = capsys.readouterr().out
    for option in ("--no-probe", "--price-per-gpu-hour", "--json", "--log-format"):
        assert option in told


def test_options_and_settings_come_in_any_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["name=mixed", "--dry-run", f"store={tmp_path}/x", "--config", "demo", "seed=7"]
    _main("relabel")(words)
    told = yaml.safe_load(capsys.readouterr().out.partition("stage ")[0])
    assert (told["name"], told["store"], told["seed"]) == ("mixed", f"{tmp_path}/x", 7)


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("ingest", ["store=./lost"], "store=./lost lies in the folder that Ray runs"),
        (
            "ingest",
            ["store=/kept", "corpus.kind=voc", "corpus.root=photos"],
            "corpus.root=photos is not in the folder that Ray runs this submitted job in",
        ),
        (
            "compare",
            ["store={ray}/working_dir_files/_ray_pkg_1/s", "--grid", "fcan.steps=1,2"],
            "/working_dir_files/_ray_pkg_1/s lies in the folder that Ray runs",
        ),
    ],
)
def test_a_submitted_job_is_told_what_would_be_lost(
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    job: str,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv(SUBMITTED, "{}")
    given = (argument.format(ray=tmp_path) for argument in arguments)
    with pytest.raises(ConfigError, match=re.escape(message)):
        _main(job)(["--config", str(config_file), *given])


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


def objects(printed: str) -> list[dict[str, Any]]:
    """The objects of a log of JSON: every line is one, with all that each has."""
    found = [json.loads(line) for line in printed.splitlines()]
    assert all({"time", "level", "run", "stage", "message"} <= {*event} for event in found)
    return found


def test_a_job_prints_nothing_but_json_where_it_is_asked_to(
    config_file: Path, tmp_path: Path
) -> None:
    arguments = ["--config", config_file, f"store={tmp_path / 'store'}", "name=web"]
    told = call("ingest.py", *arguments, "--log-format", "json", "cluster.executor=here")
    assert told.returncode == 0, told.stderr
    said = {event["message"]: event for event in objects(told.stderr)}
    done = said["ingest: 16 images, 0 rejected, 16 new, 0 gone"]
    assert (done["level"], done["run"], done["stage"]) == ("info", "web", "ingest")
    assert any(event.get("done") == 16 == event.get("total") for event in said.values())
    printed = [event["message"] for event in objects(told.stdout)]
    assert printed[:3] == ["train: 12 images in 4 parts", "val: 4 images in 2 parts", "rejected: 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "{tmp}/no.yaml"], "error: Cannot read the config {tmp}/no.yaml"),
        (["--bad"], "error: No such option: --bad"),
    ],
)
def test_mistakes_are_told_in_json_too(tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    told = call("relabel.py", *given, "--log-format=json")
    assert told.returncode == 2 and not told.stdout
    event = objects(told.stderr)[-1]
    assert event["message"].startswith(message.format(tmp=tmp_path))
    assert event["level"] in ("error", "warning")


def logged(program: str) -> subprocess.CompletedProcess[str]:
    """What a job of some code prints as JSON."""
    command = [sys.executable, "-c", program, "--log-format", "json"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_fault_is_one_object_with_its_traceback() -> None:
    program = "from jobs._main import run_job; run_job(lambda _: 1 / 0)"
    told = logged(program)
    assert told.returncode == 1
    (event,) = objects(told.stderr)
    assert (event["level"], event["message"]) == ("error", "ZeroDivisionError: division by zero")
    assert "Traceback (most recent call last)" in event["traceback"]


@pytest.mark.parametrize("error", ["", "; raise DcspError('x')"])
def test_a_line_that_has_not_ended_is_an_object_at_the_end(error: str) -> None:
    program = (
        "import sys; from dcsp.errors import DcspError; from jobs._main import run_job\n"
        f"def main(_): print('half', end='', file=sys.stderr){error}\nrun_job(main)"
    )
    told = logged(program)
    assert objects(told.stderr)[0]["message"] == "half"


def test_the_config_is_the_first_object_of_a_run(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", JsonLines(log))
    monkeypatch.setattr(relabel, "hold", lambda *_: suppress(DcspError))
    monkeypatch.setattr(relabel, "run_chain", lambda *_: None)
    relabel.main(["--config", str(config_file), f"store={tmp_path}", "name=web"])
    (event,) = objects(log.getvalue())
    assert event["run"] == "web"
    told = tmp_path / "told.yaml"
    told.write_text(yaml.safe_dump(event["config"]))
    assert load_config(told) == load_config(config_file, [f"store={tmp_path}", "name=web"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_of_the_repository_validate(path: Path) -> None:
    load_config(path, ["corpus.classes=[cat, dog]"] if path.stem == "folder" else [])


def test_only_the_user_knows_the_classes_of_a_folder() -> None:
    path = REPOSITORY / "jobs/configs/folder.yaml"
    with pytest.raises(ConfigError, match=r"corpus\.kind=folder needs corpus\.classes"):
        _main("relabel")(["--config", str(path), "corpus.root=photos", "--dry-run"])


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("ingest", ["--config=~/no.yaml"], "Cannot read the config {home}/no.yaml"),
        (
            "predict",
            ["~/s", "--images=~", "--out=~/out"],
            "{home}/s has no published run",
        ),
        (
            "predict",
            ["s", "--images=~", "--out=~no one/out"],
            "The path ~no one/out names a home folder that is not known",
        ),
    ],
)
def test_home_is_expanded_in_the_options_of_jobs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    job: str,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DcspError, match=re.escape(message.format(home=tmp_path))):
        _main(job)(arguments)
    assert not Path("~").exists()


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_configs_of_the_paper_dry_run_without_their_data(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _main("relabel")(["--config", str(path), f"store={tmp_path / 'store'}", "--dry-run"])
    told = capsys.readouterr()
    assert told.err == ""
    assert "joint_phase1" in told.out
    assert "predictions" in told.out
    assert not (tmp_path / "store").exists()


def _main(job: str) -> Callable[[Sequence[str]], None]:
    main: Callable[[Sequence[str]], None] = importlib.import_module(f"jobs.{job}").main
    return main


def _told_in_one_line(told: subprocess.CompletedProcess[str], message: str) -> None:
    assert told.returncode == 2, told.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], told.stderr
    assert told.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in told.stderr
