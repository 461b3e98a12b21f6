"""The trust table of a whole run, and what its metrics say of it."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from dcsp.evaluation.trust_fit import Judged, expectations
from dcsp.stages.parts import read_part
from dcsp.stages.step import Role
from dcsp.tables.codecs import decode_labels
from dcsp.trust.score import NO_PIXELS, REASONS, shipped_model
from dcsp.trust.table import TrustStage
from tests.chain import CORRUPT, UNTAGGED, table
from tests.whole_chain.conftest import Done

BOTH = ("train", "val")


def test_every_label_has_a_score_and_its_classes_are_those_of_label_and_tags(done: Done) -> None:
    labels = table(done.plan, "predictions", BOTH)
    found = table(done.plan, "trust", BOTH)
    assert list(found) == list(labels)
    assert found[CORRUPT]["status"] == "error" and found[CORRUPT]["error"]
    assert found[CORRUPT]["score"] is None and found[CORRUPT]["classes"] is None
    for image_id, row in found.items():
        if image_id == CORRUPT:
            continue
        label = decode_labels(labels[image_id]["label"])
        shown = set(np.unique(label).tolist()) - {0, 255}
        told = {c["class"]: c for c in row["classes"]}
        assert list(told) == sorted(shown | set(row["tags"]))
        assert {i: c["pixels"] for i, c in told.items()} == {i: (label == i).sum() for i in told}
        assert all(
            0 <= c["score"] <= 1 and set(c["reasons"]) <= set(REASONS) for c in told.values()
        )
        missing = {i for i in row["tags"] if i not in shown}
        assert {i for i, c in told.items() if NO_PIXELS in c["reasons"]} == missing
        if told:
            mean = np.mean([c["score"] for c in told.values()])
            assert row["score"] == pytest.approx(mean, abs=1e-6)
    assert found[UNTAGGED]["tags"] == []


def test_training_images_are_compared_with_their_cues_and_others_have_none(done: Done) -> None:
    stage = cast(TrustStage, done.plan.of(Role.TRUST)[0].stage)
    held = {}
    for part in done.plan.snapshot.parts:
        rows = read_part(done.store, stage.inputs, part.name).to_pylist()
        held[part.split] = [row["cue.label"] for row in rows if row["tags"]]
    assert any(held["train"]) and held["val"] and not any(held["val"])


def test_metrics_count_what_the_table_says(done: Done) -> None:
    rows = [row for row in table(done.plan, "trust", BOTH).values() if row["status"] == "ok"]
    found = done.metrics["trust"]
    assert found["images"] == len(rows)
    tagged = [row for row in rows if row["tags"]]
    consistent = [
        all(c["pixels"] for c in row["classes"] if c["class"] in row["tags"]) for row in tagged
    ]
    assert found["tag_consistency"] == pytest.approx(np.mean(consistent))
    reasons = [reason for row in rows for c in row["classes"] for reason in c["reasons"]]
    assert found["reasons"] == {name: reasons.count(name) for name in set(reasons)}
    assert 0 <= found["expected_miou"] <= 100
    assert set(found["splits"]) == set(BOTH)
    assert found["calibration"] is None, "eight masks are too few"


def test_a_model_expects_for_its_fit_what_it_expects_in_the_metrics(done: Done) -> None:
    run = Judged("run", done.store, done.plan, ())
    found = expectations(run, shipped_model())
    assert set(found) == {*BOTH, "all"}
    assert found["all"]["expected"] == pytest.approx(
        done.metrics["trust"]["expected_miou"], abs=1e-3
    )
    # Of training images one has failed, which metrics count as missed and trust does not know.
    assert found["val"]["true"] == pytest.approx(done.metrics["val"]["miou_published"], abs=1e-3)
