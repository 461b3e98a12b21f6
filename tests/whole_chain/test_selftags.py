"""Self-tags in a whole run: what they change, what they leave alone, and where they are told of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcsp.config import RunConfig
from dcsp.inspection.verify import verify_store
from dcsp.run.plan import Plan, build_plan
from dcsp.selftags.calibration import ScoreCounts, Thresholds
from dcsp.selftags.table import read_thresholds
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file, report_file
from dcsp.tables.snapshot import Snapshot
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank
from tests import chain
from tests.chain import CORRUPT, UNTAGGED, table
from tests.whole_chain.conftest import Done

LENIENT = {"precision": 0.2, "min_support": 1, "calibrate": "train"}
"""So that networks of two steps find something."""
NEW = ["tag_scores", "selftags"]
JOINT = ["joint_phase0", "joint_phase1"]


@dataclass(frozen=True)
class Tagged(Done):
    """A run with self-tags, and what it had to do beyond the run without them."""

    computed: list[str]


def config_of(config: RunConfig, store: Path | str, **selftags: Any) -> RunConfig:
    tree = config.model_dump(mode="json")
    tree["selftags"] |= selftags
    return RunConfig.model_validate(tree | {"store": str(store)})


def ran(done: Done, place: Path, **selftags: Any) -> Tagged:
    """Another run in a copy of the store."""
    shutil.copytree(done.store.url, place)
    store, config = Store(place), config_of(done.config, place, **selftags)
    plan = build_plan(config, done.plan.snapshot)
    missing = [step.title for step in plan if not plan.is_done(store, step)]
    plan = chain.compute(config, done.plan.snapshot)
    return Tagged(store, plan, chain.evaluate(plan), config, missing)


@pytest.fixture(scope="module")
def trained(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Tagged:
    return ran(done, tmp_path_factory.mktemp("train") / "store", use="train", **LENIENT)


@pytest.fixture(scope="module")
def relabelled(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Tagged:
    return ran(done, tmp_path_factory.mktemp("relabel") / "store", use="relabel", **LENIENT)


def prints(plan: Plan) -> dict[str, str]:
    return {step.title: step.stage.key.fingerprint for step in plan}


# --- what is computed -----------------------------------------------------------------------------


def test_without_self_tags_their_settings_decide_nothing(done: Done) -> None:
    config = config_of(done.config, done.store.url, precision=0.5, min_support=3, flip=True)
    plan = build_plan(config, done.plan.snapshot)
    assert prints(plan) == prints(done.plan) and plan.run_id == done.plan.run_id
    assert "selftags" not in done.metrics


def test_to_relabel_no_network_is_trained(done: Done, relabelled: Tagged) -> None:
    assert relabelled.computed == [*NEW, "selfcues_phase1"]
    known = prints(done.plan)
    assert {name: prints(relabelled.plan)[name] for name in known} == known


def test_to_train_only_what_learns_from_self_tags_is_computed(done: Done, trained: Tagged) -> None:
    later = ["selfcues_phase1", "cues_phase1", "joint_phase1", "predictions", "trust"]
    assert trained.computed == [*NEW, "selfcues_phase0", "joint_phase0", *later]
    same = [t for t, name in prints(done.plan).items() if prints(trained.plan)[t] == name]
    assert same == ["saliency", "fcan", "cues_soft", "cues_phase0"]


def test_precision_decides_self_tags_and_no_scores(done: Done) -> None:
    plans = [
        build_plan(config_of(done.config, "x", use="train", precision=p), done.plan.snapshot)
        for p in (0.8, 0.9)
    ]
    first, second = map(prints, plans)
    assert first["tag_scores"] == second["tag_scores"] and first["fcan"] == second["fcan"]
    assert all(first[title] != second[title] for title in ("selftags", "selfcues_phase0", *JOINT))
    assert first["cues_phase0"] == second["cues_phase0"]


# --- the tables -----------------------------------------------------------------------------------


def test_self_tags_are_apart_from_given_ones(trained: Tagged) -> None:
    corpus = {
        row["image_id"]: row["tags"]
        for part in trained.plan.snapshot.of(["train"])
        for row in trained.store.read_table(part_file(CORPUS_DIRECTORY, part.name)).to_pylist()
    }
    rows = table(trained.plan, "selftags")
    assert {image_id: row["tags"] for image_id, row in rows.items()} == corpus
    found = rows.pop(UNTAGGED)
    assert found["status"] == "ok" and found["tags"] == [] and found["selftags"]
    assert all(row["status"] == "skipped" for row in rows.values())
    assert all(row["selftags"] is None and row["scores"] is None for row in rows.values())


def test_self_tags_are_the_scores_that_reach_thresholds_of_the_tagged(trained: Tagged) -> None:
    scores = table(trained.plan, "tag_scores")
    assert scores.pop(UNTAGGED)["status"] == "skipped"
    assert scores.pop(CORRUPT)["status"] == "error"
    tagged = np.array([[c in row["tags"] for c in range(1, 7)] for row in scores.values()])
    counts = ScoreCounts.of(np.float32([row["scores"] for row in scores.values()]), tagged)
    known = read_thresholds(trained.store, trained.plan.step("selftags").stage.key)
    classes = trained.plan.snapshot.classes
    assert known == Thresholds.find(counts, classes, "train", 0.2, 1) and known.images == 4
    row = table(trained.plan, "selftags")[UNTAGGED]
    assert row["selftags"] == known.self_tags(np.float32(row["scores"]))


@pytest.mark.parametrize("phase", [0, 1])
def test_cues_by_self_tags_are_apart_from_those_by_given_tags(trained: Tagged, phase: int) -> None:
    given, own = (table(trained.plan, f"{kind}_phase{phase}") for kind in ("cues", "selfcues"))
    selftags = table(trained.plan, "selftags")[UNTAGGED]["selftags"]
    assert given[UNTAGGED]["status"] == "skipped" and given[UNTAGGED]["label"] is None
    assert own[UNTAGGED]["status"] == "ok" and own[UNTAGGED]["tags"] == selftags
    assert set(np.unique(decode_labels(own.pop(UNTAGGED)["label"]))) <= {0, *selftags}
    assert {row["status"] for row in own.values()} == {"skipped"}
    assert trained.plan.step(f"selfcues_phase{phase}").stage.key.directory.startswith("selfcues/")


def test_trainings_learn_from_the_cue_and_not_from_the_self_tags(
    done: Done, trained: Tagged, relabelled: Tagged
) -> None:
    given = np.unique(decode_labels(table(trained.plan, "selfcues_phase0")[UNTAGGED]["label"]))
    for run, learns in ((done, False), (relabelled, False), (trained, True)):
        cues, tags = samples(run, "joint_phase0")
        assert not tags.any(), "an image without given tags counts for no tag loss"
        assert bool((cues != 255).any()) == learns
        assert set(np.unique(cues)) <= {255, *(given if learns else ())}


def samples(run: Done, title: str) -> tuple[np.ndarray, np.ndarray]:
    """Cues and tags of the untagged image, as a training sees them."""
    stage = run.plan.step(title).stage
    assert isinstance(stage, TrainStage)
    found = []
    for part in run.plan.snapshot.of(["train"]):
        corpus = run.store.read_table(part_file(CORPUS_DIRECTORY, part.name), ["image_id"])
        ids = corpus["image_id"].to_pylist()
        if UNTAGGED in ids:
            others = tuple(i for i, name in enumerate(ids) if name != UNTAGGED)
            alone = [replace(part, dead=others)]
            settings = stage.settings.model_copy(update={"steps": 1, "batch": 1})
            recipe = replace(stage.recipe, settings=settings)
            (piece,) = replace(stage, recipe=recipe).pieces(alone, Rank(), 0)
            found.append(stage.read(run.store, piece))
    return found[0]["cue"], found[0]["tags"]


def test_the_store_is_whole_and_does_nothing_twice(trained: Tagged) -> None:
    assert verify_store(trained.store).problems == []
    file = f"{trained.plan.step('selftags').stage.key.directory}/thresholds.json"
    before = trained.store.read_bytes(file)
    assert all(trained.plan.is_done(trained.store, step) for step in trained.plan)
    trained.store.remove(file)
    prepare = trained.plan.step("selftags").prepare
    assert prepare is not None
    prepare(trained.store)
    assert trained.store.read_bytes(file) == before


# --- what is told ---------------------------------------------------------------------------------


def test_metrics_and_report_tell_of_self_tags(trained: Tagged) -> None:
    found = trained.metrics["selftags"]
    assert (found["use"], found["untagged"], found["self_tagged"]) == ("train", 1, 1)
    assert (found["split"], found["held_out"], found["calibrated_on"]) == ("train", False, 4)
    selftags = table(trained.plan, "selftags")[UNTAGGED]["selftags"]
    classes = list(found["per_class"])
    assert [classes.index(n) + 1 for n in classes if found["per_class"][n]["images"]] == selftags
    cues = trained.metrics["cues"]
    assert cues["selfcues_phase0"]["figures"]["images"] == 1
    assert cues["phase0"]["figures"]["without_label"] == 1
    page = trained.store.read_bytes(report_file(trained.plan.run_id)).decode()
    assert "Self-tags" in page and "1 of 1 untagged image got tags of the network" in page
    assert "calibrated on images that the network has learned from" in page


# --- a corpus that grew ---------------------------------------------------------------------------


def test_new_images_get_self_tags_by_the_thresholds_of_the_networks(trained: Tagged) -> None:
    """Networks that stay keep their thresholds: nothing is calibrated on what came since."""
    config, learned = trained.config, trained.plan.snapshot
    first, *others = learned.parts
    assert first.split == "train"
    grown = replace(learned, parts=(*others, replace(first, name="new", rows=2)), added=1)
    plan = build_plan(config, grown, learned)
    known, found = prints(trained.plan), prints(plan)
    assert found == known
    assert plan.is_done(trained.store, plan.step("tag_scores"))
    assert plan.left(trained.store, plan.step("selftags")) == 2
    assert plan.left(trained.store, plan.step("selfcues_phase0")) == 2
    anew = prints(build_plan(config, grown))
    assert anew["selftags"] != known["selftags"] and anew["fcan"] != known["fcan"]


def test_held_out_images_calibrate_where_there_are_any(done: Done) -> None:
    config = config_of(done.config, "x", use="relabel")
    learned = done.plan.snapshot
    assert build_plan(config, learned).step("tag_scores").splits == ("val",)
    alone = Snapshot(learned.classes, tuple(p for p in learned.parts if p.split == "train"))
    assert build_plan(config, alone).step("tag_scores").splits == ("train",)
