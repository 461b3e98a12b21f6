"""The ceiling: true masks in the place of cues, in comparisons and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcsp.config import RunConfig
from dcsp.config.file import parse_config
from dcsp.methods.ceiling import TruthStage
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import live_rows
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import part_file
from tests import chain
from tests.threads import torch_threads


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("ceiling")
    settings = chain.chain_config(folder / "store", chain.write_detector(folder / "b.onnx"))
    return parse_config(settings.model_dump(mode="json") | {"truth": "train"})


@pytest.fixture(scope="module")
def plan(config: RunConfig) -> Plan:
    with torch_threads(1):
        plan = chain.compute(config, chain.ingest(config))
        chain.evaluate(plan)
    return plan


def test_the_cues_of_every_phase_are_the_masks(plan: Plan) -> None:
    store = Store(plan.config.store)
    assert [step.phase for step in plan.of(Role.CUES)] == [0, 1]
    for step in plan.of(Role.CUES):
        assert isinstance(step.stage, TruthStage)
        for part in (part for part in plan.snapshot.parts if part.split == "train"):
            assert part.truth
            truth = store.read_table(part.truth)["label"].to_pylist()
            cues = live_rows(store.read_table(part_file(step.stage.key.directory, part.name)), ())
            for mask, cue in zip(truth, cues["label"].to_pylist(), strict=True):
                np.testing.assert_array_equal(decode_labels(mask), decode_labels(cue))


def test_all_but_the_cues_is_trained_as_it_would_be(plan: Plan, config: RunConfig) -> None:
    weak = build_plan(config.model_copy(update={"truth": "evaluate"}), plan.snapshot)
    assert [step.role for step in weak.trainings] == [step.role for step in plan.trainings]
    assert weak.step("fcan").stage.key == plan.step("fcan").stage.key
    assert weak.step("joint_phase1").stage.key != plan.step("joint_phase1").stage.key
    assert weak.run_id != plan.run_id


def test_a_plan_without_truth_reads_no_mask(plan: Plan, config: RunConfig) -> None:
    weak = build_plan(config.model_copy(update={"truth": "evaluate"}), plan.snapshot)
    masks = {part.truth for part in plan.snapshot.parts if part.truth}
    assert masks
    for step in weak:
        assert not any(source.directory.startswith("truth") for source in step.stage.inputs)
        assert not any(mask in repr(step.stage) for mask in masks), step.title


def test_other_masks_are_another_ceiling(plan: Plan, tmp_path: Path) -> None:
    (step, *_) = plan.of(Role.CUES)
    assert isinstance(step.stage, TruthStage)
    other = TruthStage(plan.config, (*step.stage.files[:-1], "truth/other.parquet"))
    assert other.key.fingerprint != step.stage.key.fingerprint
