"""Several nodes: stages spread over them. Nodes that are lost: test_chaos.py."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from dcsp.config import ClusterSettings
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.progress import Progress
from dcsp.store.store import Store
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._cluster import connection
from tests.jobs.running import Run, parts
from tests.jobs.stages import faulty

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def nodes(
    request: pytest.FixtureRequest, no_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A head of one CPU and, where the test names no others, two workers of two."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for worker in getattr(request, "param", [{"num_cpus": 2}] * 2):
            made.add_node(**worker)
        yield made
    finally:
        _cluster.disconnect()
        made.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [[{"num_cpus": 3, "num_gpus": 1}]], indirect=True)
def test_a_model_for_each_gpu_mines_whole_parts(
    finished: Run, nodes: Cluster, tmp_path: Path
) -> None:
    """Ray counts a GPU that is not there; onnxruntime then runs the detector on the CPU."""
    settings = ClusterSettings(address=nodes.address)
    resources = _cluster.connect(settings)
    assert (resources.gpus, resources.mining_actors(settings, 99)) == (1, 1)
    run = finished.with_corpus(tmp_path / "store")
    _mine(run, "saliency", resources, settings)
    assert parts(run.table("saliency")) == parts(finished.table("saliency")) != {}


@pytest.mark.parametrize("nodes", [[{"num_cpus": 1}]], indirect=True)
def test_nodes_with_other_libraries_are_told_when_the_job_connects(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ClusterSettings(address=nodes.address)
    _cluster.connect(settings)
    assert "mixtures" not in capsys.readouterr().err
    _cluster.disconnect()
    monkeypatch.setenv("TORCH_OF_THIS_PROCESS", "2.7")  # the nodes were started before
    monkeypatch.setattr(
        connection, "versions", lambda _: {"torch": os.environ.get("TORCH_OF_THIS_PROCESS", "2.6")}
    )
    _cluster.connect(settings)
    told = capsys.readouterr().err
    assert told.count("has torch 2.6 (here 2.7): tables would be mixtures") == 2


def test_mining_spans_nodes(finished: Run, nodes: Cluster, tmp_path: Path) -> None:
    settings = ClusterSettings(address=nodes.address, actors=3)
    resources = _cluster.connect(settings)
    assert (resources.nodes, resources.cpus) == (3, 5)
    run = finished.with_corpus(tmp_path / "store")
    _mine(run, "saliency", resources, settings)
    assert parts(run.table("saliency")) == parts(finished.table("saliency")) != {}


@pytest.mark.slow
def test_training_spans_nodes(finished: Run, nodes: Cluster, tmp_path: Path) -> None:
    settings = ClusterSettings(address=nodes.address, train_cpus=1, train_workers=2)
    resources = _cluster.connect(settings)
    run = finished.with_corpus(tmp_path / "store")
    fcan = run.plan().step("fcan").stage
    assert isinstance(fcan, TrainStage)
    training = faulty(fcan, tmp_path, "")
    with Progress("fcan", 1, stream=io.StringIO()) as progress:
        todo = run.plan().snapshot.of(["train"])
        _cluster.train(Store(run.store), training, todo, resources, settings, progress)
    assert training.starts() == 2
    load_checkpoint(Store(run.store), fcan.key.directory, SegmentationNetwork)


def _mine(run: Run, title: str, resources: Any, settings: Any) -> None:
    plan = run.plan()
    step = plan.step(title)
    stage, todo = step.stage, plan.parts(step)
    assert not isinstance(stage, TrainStage)
    with Progress(title, 1, stream=io.StringIO()) as progress:
        found = _cluster.map_parts(Store(run.store), stage, todo, resources, settings, progress)
    assert sorted(s.part for s in found.summaries) == sorted(part.name for part in todo)
