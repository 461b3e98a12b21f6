"""The executor of this process: whole parts, a training that goes on where it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcsp.config import RunConfig
from dcsp.run.here import Here
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store
from dcsp.tables.layout import MODEL_FILE, RESUMABLE
from dcsp.training.loop import Trainer
from dcsp.training.stage import TrainStage
from tests import chain
from tests.threads import torch_threads

STEPS = 6


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("here")
    training = {"steps": STEPS, "batch": 2, "crop": 64, "checkpoint_every": 2}
    detector = chain.write_detector(folder / "brightness.onnx")
    config: RunConfig = chain.chain_config(folder / "store", detector, fcan=training)
    return build_plan(config, chain.ingest(config))


def trained(store: Store, plan: Plan) -> bytes:
    step = plan.trainings[0]
    step.stage.compute(Here(use_gpu=False), store, plan.parts(step), step.title)
    return store.read_bytes(f"{step.stage.key.directory}/{MODEL_FILE}")


def test_a_killed_training_ends_as_an_unbroken_one(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stage = Store(plan.config.store), plan.trainings[0].stage
    with torch_threads(1):
        unbroken = trained(store, plan)
        store.remove(stage.key.directory)
        step, taken = Trainer.step, []

        def killed(self: Trainer, batch: Any) -> dict[str, float]:
            if len(taken) == 5:
                raise KeyboardInterrupt
            taken.append(self.step_number)
            return step(self, batch)

        monkeypatch.setattr(Trainer, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(store, plan)
        assert not stage.is_done(store, []) and store.list(RESUMABLE) == [stage.key.fingerprint]
        taken.clear()
        again = trained(store, plan)
    assert taken == [4, 5], "it went on from the checkpoint"
    assert again == unbroken
    assert store.list(RESUMABLE) == []
    assert stage.record(store, [])["restarts"] == [4]
    assert [entry["step"] for entry in stage.history(store)] == list(range(1, STEPS + 1))


def test_results_come_in_the_order_of_the_items() -> None:
    taken: list[int] = []
    Here(use_gpu=False).items(lambda item: item * 2, [3, 1, 2], taken.append, "doubling")
    assert taken == [6, 2, 4]


def test_a_table_is_made_part_by_part(plan: Plan, tmp_path: Path) -> None:
    store, step = Store(plan.config.store), plan.steps[0]
    assert not isinstance(step.stage, TrainStage)
    end = step.stage.compute(Here(use_gpu=False), store, plan.parts(step), step.title)
    manifest = end(1.5)
    assert manifest == step.stage.record(store, plan.parts(step))
    assert (manifest["actors"], manifest["seconds"]) == (1, 1.5)
    assert manifest["computed"] == sum(part.rows for part in plan.parts(step))
    assert step.stage.left(store, plan.parts(step)) == 0
    fewer = plan.first(1)
    assert fewer.is_done(store, step)
