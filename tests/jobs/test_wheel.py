"""The wheel: what is in it, and that it works from any folder without the clone."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.source_tree import ROOT

SOURCES = ("dcsp", "jobs", "pyproject.toml", "setup.py", "README.md", "LICENSE")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None,
    reason="a wheel is built by this environment's own pip and setuptools, without a network",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is unpacked in."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:  # building leaves folders beside the sources
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "clone" / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, folder / "clone" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(folder / "clone")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    shutil.rmtree(folder / "clone")
    return folder / "site"


def dcsp(installed: Path, elsewhere: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command, started in some other folder."""
    return subprocess.run(
        [sys.executable, "-m", "dcsp", *map(str, arguments)],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_at_the_top_is_called_jobs(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"dcsp", "dcsp_jobs"}
    assert len(names) == 3


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)) for p in found if "__pycache__" not in p.parts}

    for package, source in (("dcsp", "dcsp"), ("dcsp_jobs", "jobs")):
        assert files(installed / package) == files(ROOT / source)


def test_the_version_is_told(installed: Path, tmp_path: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    version = metadata.read_text().partition("\nVersion: ")[2].partition("\n")[0]
    assert dcsp(installed, tmp_path, "--version").stdout == f"dcsp {version}\n"


def test_a_shipped_config_runs_by_its_name_from_any_folder(installed: Path, tmp_path: Path) -> None:
    names = json.loads(dcsp(installed, tmp_path, "configs", "--json").stdout)
    assert set(names) == {path.stem for path in (ROOT / "jobs/configs").glob("*.yaml")}
    arguments = ["--dry-run", "corpus.classes=[cat]", f"store={tmp_path / 'store'}"]
    told = dcsp(installed, tmp_path, "relabel", "--config", "folder", *arguments)
    assert told.returncode == 0, told.stderr
    assert yaml.safe_load(told.stdout.partition("\nstage ")[0])["corpus"]["classes"] == ["cat"]
    assert "joint_phase1" in told.stdout and "photos is not there" in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_a_job_is_one_line_with_exit_code_2(installed: Path, tmp_path: Path) -> None:
    for arguments in (["relabel", "--config", "folder", "sede=1"], ["relabel", "--bad"], ["relab"]):
        told = dcsp(installed, tmp_path, *arguments)
        assert (told.returncode, told.stdout) == (2, ""), told.stderr
        assert told.stderr.startswith("error: ") and len(told.stderr.splitlines()) == 1


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_workers_know_the_jobs_by_the_name_that_the_wheel_gives_them(
    installed: Path, no_cluster: None, config_file: Path, tmp_path: Path
) -> None:
    arguments = ["--config", config_file, "store=here", "fcan.steps=2", "--until", "cues_phase0"]
    told = dcsp(installed, tmp_path, "relabel", *arguments)
    assert told.returncode == 0, told.stderr
    assert "cluster: 1 node(s)" in told.stderr and "cues_phase0: 12 ok" in told.stderr
    assert len([*(tmp_path / "here/cues").glob("*/*.parquet")]) == 4
