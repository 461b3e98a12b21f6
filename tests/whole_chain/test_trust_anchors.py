"""What others are given to judge labels by is what the prediction stage labelled by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dcsp.run.here import Here
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from tests import chain
from tests.evaluation.test_trust_fit import images
from tests.quality.trust import mistakenness, ours, predicted, rate, shares, softmin, table


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, detector: str, one_thread: None) -> Plan:
    """Predictions of a network whose labels differ from place to place."""
    views = {"scales": [1, 0.75], "flip": True, "fuse": "mean"}
    place = tmp_path_factory.mktemp("anchors") / "store"
    config = chain.chain_config(place, detector, predict=views)
    plan, store = build_plan(config, chain.ingest(config)), Store(place)
    for number, step in enumerate(plan):
        if step.stage.learns:
            chain.give_opinions(store, step.stage, number)
    for title in ("saliency", "predictions"):
        plan.step(title).stage.compute(
            Here(use_gpu=False), store, plan.snapshot.of(["train", "val"]), title
        )
    return plan


def test_probabilities_are_those_that_labels_were_made_by(plan: Plan) -> None:
    rows = chain.table(plan, "predictions", plan.labelled)
    seen, tagged, shown = 0, 0, set()
    for stage, row in predicted(Store(plan.config.store), plan):
        made = rows[row["image_id"]]
        label = decode_labels(made["label"])
        found = shares(stage, row, (label.shape[0], label.shape[1]))
        network = decode_labels(made["label_without_crf"])
        assert np.mean(found["all"].argmax(axis=0) == network) > 0.995
        shown |= {*np.unique(network).tolist(), *np.unique(label).tolist()}
        allowed = {0, *made["tags"]} if made["tags"] else {*range(len(found["all"]))}
        others = [id_ for id_ in range(len(found["all"])) if id_ not in allowed]
        assert not found["restricted"][others].any()
        np.testing.assert_allclose(found["restricted"].sum(axis=0), 1, atol=1e-4)
        if made["tags"]:
            tagged += 1
            for area in made["areas"]:
                own = found["restricted"][area["class"]][label == area["class"]]
                assert own.mean() == pytest.approx(area["confidence"], abs=1e-3)
        seen += 1
    assert seen == sum(row["status"] == "ok" for row in rows.values()) and tagged > 3
    assert len(shown) > 3, "classes are told from one another"


def test_mistakenness_is_fiftyones_formula() -> None:
    sure, even = [0.9, 0.1], [0.5, 0.5]
    found = np.array([sure, sure, even], np.float32).T
    c = math.exp(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected = [(1 - c) / 2, (1 + c) / 2, (1 - 0.5) / 2]  # right, wrong, and a toss that is right
    assert mistakenness(np.array([0, 1, 0]), found) == pytest.approx(np.mean(expected), abs=1e-6)
    assert mistakenness(np.array([0]), np.array([[1.0], [0.0]], np.float32)) == 0


def test_cleanlab_scores_a_label_by_the_probabilities_of_its_pixels() -> None:
    pytest.importorskip("cleanlab")
    found = np.array([[0.8, 0.3, 0.5], [0.2, 0.7, 0.5]], np.float32)
    of_label = np.array([0.8, 0.7, 0.5])
    weights = np.exp((1 - of_label) / 0.1)
    expected = (of_label * weights).sum() / weights.sum()
    assert softmin(np.array([0, 1, 1]), found) == pytest.approx(expected, abs=1e-6)
    label = np.array([[0, 255, 1]], np.uint8)
    scores = rate(label, {"all": found[:, None]})
    assert scores["cleanlab softmin, all"] == pytest.approx(
        softmin(np.array([0, 1]), found[:, [0, 2]])
    ), "what is 255 is not judged"


def test_a_table_has_our_scores_by_every_model() -> None:
    judged = images(60, 0)
    scores = ours(judged, [images(60, 1)])
    assert [*scores] == ["dcsp, five folds", "dcsp, fitted on other stores", "dcsp, shipped"]
    lines = table(scores, judged).splitlines()
    assert len(lines) == 5 and all(line.count("|") == 5 for line in lines)
    assert all(float(line.split("|")[2]) > 0.7 for line in lines[2:4])
