"""A tiny run, its detector, and one local Ray cluster that the tests of jobs share."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsp.capacity.resources import Resources
from dcsp.config import ClusterSettings
from jobs import _cluster, relabel
from tests.jobs.running import Run
from tests.jobs.tiny import write_config, write_detector


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with clusters of their own come after the ones that share one: it starts once."""
    here = [
        number for number, item in enumerate(items) if Path(__file__).parent in item.path.parents
    ]
    ordered = sorted((items[n] for n in here), key=lambda item: "no_cluster" in _fixtures(item))
    for number, item in zip(here, ordered, strict=True):
        items[number] = item


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny config, with a detector of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    return write_config(folder / "tiny.yaml", write_detector(folder / "brightness.onnx"))


@pytest.fixture(scope="session", autouse=True)
def quiet_ray() -> Iterator[None]:
    """Ray calls nobody, and its processes use one thread each; the last cluster ends here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        yield
        _cluster.disconnect()
        os.environ.pop("RAY_AUTH_MODE", None)  # Ray sets it when it starts a cluster


@pytest.fixture
def cluster() -> Resources:
    """The shared local cluster; started at the first use, and again when a test ended it."""
    return _cluster.connect(ClusterSettings())


@pytest.fixture
def no_cluster() -> None:
    """For tests that start clusters of their own: two at once would be too much for a laptop."""
    _cluster.disconnect()


@pytest.fixture(scope="session")
def finished(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole tiny chain, run once in this process; tests read its store and never write it."""
    store = tmp_path_factory.mktemp("finished") / "store"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        relabel.main(["--config", str(config_file), f"store={store}"])
    return Run(store, config_file, out.getvalue(), err.getvalue())
