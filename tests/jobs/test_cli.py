"""The one command ``dcsp``: the library's commands, the jobs, and configs by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from dcsp.config.file import load_config
from jobs import cli, relabel
from jobs._options import SHIPPED, find_config
from tests.jobs.running import REPOSITORY, call

COMMANDS = (
    *("demo", "relabel", "plan", "predict", "compare", "ingest", "mine", "train", "evaluate"),
    *("show", "explain", "diff", "history", "verify", "report", "rejected", "export", "review"),
    *("publish", "rollback", "gc", "erase", "configs", "init", "config"),
)


def dcsp(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.app, [*map(str, arguments)], prog_name="dcsp")
    assert result.exit_code == code, result.output
    return result


def test_help_lists_every_command_and_says_what_it_is_for() -> None:
    lines = dcsp("--help").output.splitlines()
    told = [line.strip("│ ").split() for line in lines if line.startswith("│ ")]
    words = {line[0]: line[1:] for line in told if line}
    assert set(COMMANDS) <= set(words) and all(words[command] for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_options(command: str) -> None:
    told = dcsp(command, "--help").output
    assert f"Usage: dcsp {command}" in told
    assert ("--log-format" in told) == (command in cli.JOBS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["relabel", "--help"], ["--version"], ["configs"], ["config", "fcan.steps"]],
)
def test_what_computes_nothing_starts_without_torch_and_ray(arguments: Sequence[str]) -> None:
    script = (
        "import sys\nfrom jobs import cli\n"
        f"try:\n    cli.app({[*arguments]!r}, prog_name='dcsp')\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "print({'torch', 'ray', 'onnxruntime', 'skimage', 'scipy'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["relabl"], "No such command 'relabl'. Did you mean 'relabel'? (dcsp --help says"),
        (["--untli"], "No such option: --untli (dcsp --help says what there is)."),
        (["show", "--jsno", "x"], "No such option: --jsno"),
        (["show"], "Missing argument 'STORE' (dcsp show --help says what there is)."),
        (["gc", "x", "--keep", "none"], "Invalid value for '--keep'"),
        (["predict", "x"], "Missing option '--images'"),
        (["relabel", "--config", "demo", "store"], "The override 'store' must look like"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(arguments: list[str], message: str) -> None:
    result = dcsp(*arguments, code=2)
    assert result.stderr.startswith(f"error: {message}"), result.stderr
    assert len(result.stderr.splitlines()) == 1 and not result.stdout


def test_a_job_ends_as_its_script_does(tmp_path: Path) -> None:
    arguments = ["--config", tmp_path / "no.yaml", "--log-format", "json"]
    told = [call(name, *arguments) for name in ("relabel", "relabel.py")]
    events = [json.loads(each.stderr) for each in told]
    assert [each.returncode for each in told] == [2, 2]
    assert len({event["message"] for event in events}) == 1
    assert events[0]["message"].startswith("error: Cannot read the config")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("jobs.cli:main", "error: Missing option '--config'"),
        (None, "error: No such command 'relabel'"),  # dcsp lies on the path alone
    ],
)
def test_the_module_is_the_installed_command_or_else_the_librarys_own(
    script: str | None, told: str
) -> None:
    program = (
        "import importlib.metadata as metadata, runpy\nknown = metadata.entry_points\n"
        f"script = metadata.EntryPoint('dcsp', {script!r}, 'console_scripts')\n"
        f"found = (script,) if {script!r} else ()\n"
        "metadata.entry_points = lambda **which: found if 'name' in which else known(**which)\n"
        "runpy.run_module('dcsp', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "relabel"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stderr.startswith(told), run.stderr


def test_the_demo_is_its_config_in_the_store_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(relabel, "run_chain", lambda chain, _: told.append(chain.config))
    dcsp("demo", tmp_path / "store")
    assert told == [load_config(SHIPPED["demo"], [f"store={tmp_path / 'store'}"])]


def test_a_config_is_a_file_or_the_name_of_one_that_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("folder") == str(REPOSITORY / "jobs/configs/folder.yaml")
    for path in ("folder.yaml", "./folder", "configs/folder"):
        assert Path(find_config(path)) == Path(path)
    Path("folder").write_text("store: x")
    assert find_config("folder") == "folder"


def test_configs_are_listed_with_what_they_are_for() -> None:
    lines = dcsp("configs").output.splitlines()
    assert [line.split()[0] for line in lines] == [*SHIPPED]
    told = json.loads(dcsp("configs", "--json").output)
    for name, line in told.items():
        assert line.endswith(".") and SHIPPED[name].read_text().startswith(f"# {line}\n")
        assert len(line) < 90


def test_a_config_is_written_with_its_comments_and_never_over_another(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine.yaml"
    assert dcsp("init", "voc676_cam").output == SHIPPED["voc676_cam"].read_text()
    dcsp("init", "demo", "--out", out)
    assert out.read_bytes() == SHIPPED["demo"].read_bytes()
    assert load_config(out).name == "demo"
    assert (
        "is there already: name a new file" in dcsp("init", "folder", "--out", out, code=2).output
    )
    assert out.read_bytes() == SHIPPED["demo"].read_bytes()
    told = dcsp("init", "dmeo", code=2).output
    assert "There is no config 'dmeo': name a file, or one of demo, folder" in told


def test_plan_lists_the_stages_of_a_config_and_computes_nothing(tmp_path: Path) -> None:
    arguments = ["--config", "voc12_vgg16", f"store={tmp_path}/s", f"corpus.root={tmp_path}/none"]
    told = dcsp("plan", *arguments).output
    stages = ("ingest", "saliency", "fcan", "cues_phase1", "predictions")
    assert all(stage in told for stage in stages) and "none is not there" in told
    document = json.loads(dcsp("plan", *arguments, "--json").output)
    assert set(stages) <= {stage["stage"] for stage in document["stages"]}
    assert "none is not there" in document["notes"][0]
    assert not (tmp_path / "s").exists()


def test_a_plan_is_told_as_one_document(tmp_path: Path) -> None:
    arguments = ["--config", "demo", f"store={tmp_path}/s", "cluster.executor=here", "--no-probe"]
    document = json.loads(dcsp("plan", *arguments, "--json", "--price-per-cpu-hour", 1).output)
    assert document["cluster"]["nodes"] == 1
    found = {line["work"]["title"]: line for line in document["forecast"]}
    assert found["ingest"]["work"]["rows_left"] == 210 and found["fcan"]["work"]["steps"] == 110
    assert [*found][1:-1] == [stage["stage"] for stage in document["stages"]][1:]
    assert found["fcan"]["seconds"] is None and found["fcan"]["cost"] is None


def test_a_config_that_is_explained_can_be_set_so(tmp_path: Path) -> None:
    default = dcsp("config", "joint.scale").output.partition("default:")[2].split("\n")[0].strip()
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"store": "x", "corpus": {"kind": "scenes"}}))
    assert load_config(config, [f"joint.scale={default}"]) == load_config(config)
