"""A cluster of one CPU: everything is slow, nothing waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from dcsp.config import ClusterSettings
from dcsp.networks.checkpoint import checkpoint_is_complete
from dcsp.store.store import Store
from dcsp.training.stage import TrainStage
from jobs import _cluster
from tests.jobs.running import Run
from tests.jobs.stages import LengthStage, faulty, write_ids
from tests.jobs.test_failures import mine, run_training

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(600)]


def test_one_cpu_mines_and_trains(finished: Run, no_cluster: None, tmp_path: Path) -> None:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        resources = _cluster.connect(ClusterSettings())
        assert (resources.cpus, resources.nodes) == (1, 1)
        store = Store(tmp_path / "lengths")
        mine(store, LengthStage(str(tmp_path)), write_ids(store, parts=6, rows=2), resources)

        run = finished.with_corpus(tmp_path / "store")
        stage = run.plan().step("fcan").stage
        assert isinstance(stage, TrainStage)
        trained = run_training(faulty(stage, tmp_path, ""), run, resources, train_cpus=None)
        assert checkpoint_is_complete(trained, stage.key.directory)
    finally:
        _cluster.disconnect()
