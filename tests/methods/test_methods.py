"""Every cue method through the whole chain in process: its stages, its rows, its figures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcsp.config import RunConfig
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import ConfigError
from dcsp.methods.registry import METHODS
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.stage import TableStage
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot
from tests import chain
from tests.chain import CORRUPT, UNTAGGED, table
from tests.threads import torch_threads

TRAIN = {"steps": 2, "batch": 2, "crop": 64, "learning_rate": 0.01}
SMALL = {
    "dcsp": {"attention": {"scales": [1]}},
    "affinity": {"attention": {"scales": [1, 2]}, "train": TRAIN, "walk_steps": 8},
    "mcof": {"rounds": 2, "train": TRAIN, "superpixels": {"min_size": 20}},
    "adapt": {"scales": [1]},
    "compare": {"paper": {"attention": {"scales": [1]}}},
}
CHOICES: dict[str, dict[str, Any]] = {
    "affinity": {"method": "affinity"},
    "dcsp refined by affinity": {"method": "dcsp", "refine": "affinity"},
    "mcof": {"method": "mcof"},
    "builtin": {"method": "builtin"},
    "builtin refined by affinity": {"method": "builtin", "refine": "affinity"},
    "mcof refined by affinity": {"method": "mcof", "refine": "affinity"},
    "affinity, then Algorithm 1": {"method": "affinity", "adapt": {"dcsp": {}}},
}
STEPS = {
    "affinity": ["fcan", "cues_start", "cues_areas", "affinity", "cues_phase0"],
    "dcsp refined by affinity": [
        "saliency",
        "fcan",
        "cues_paper",
        "cues_start",
        "cues_areas",
        "affinity",
        "cues_phase0",
    ],
    "builtin": ["foreground", "fcan", "cues_phase0"],
    "mcof": ["saliency", "fcan", "superpixels", "cues_seeds0", "regions_phase0", "cues_phase0"],
}
"""The steps of phase 0, in order."""


@dataclass(frozen=True)
class Done:
    plan: Plan
    metrics: dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Snapshot]:
    """One store for all methods, so that they share what they can."""
    folder = tmp_path_factory.mktemp("methods")
    detector = chain.write_detector(folder / "brightness.onnx")
    config = chain.chain_config(folder / "store", detector, cues=SMALL, fcan=TRAIN)
    return config, chain.ingest(config)


def config_of(corpus: tuple[RunConfig, Snapshot], choice: str) -> RunConfig:
    tree = corpus[0].model_dump(mode="json")
    tree["cues"] |= CHOICES[choice]
    return RunConfig.model_validate(tree)


@pytest.fixture(scope="module", params=list(CHOICES))
def done(request: pytest.FixtureRequest, corpus: tuple[RunConfig, Snapshot]) -> Done:
    plan = chain.compute(config_of(corpus, request.param), corpus[1])
    return Done(plan, chain.evaluate(plan))


def cue_titles(plan: Plan) -> list[str]:
    return [step.title for step in plan if step.title.startswith("cues_")]


@pytest.mark.parametrize("choice", list(STEPS))
def test_the_steps_of_phase_0_come_in_their_order(
    corpus: tuple[RunConfig, Snapshot], choice: str
) -> None:
    titles = [step.title for step in build_plan(config_of(corpus, choice), corpus[1])]
    assert titles[: titles.index("joint_phase0")] == STEPS[choice]
    last = titles[titles.index("joint_phase0") + 1 :]
    rounds = ["cues_phase1", "joint_phase1", "predictions", "trust"]
    assert last == (["cues_seeds1", "regions_phase1"] if choice == "mcof" else []) + rounds


@pytest.mark.parametrize("choice", list(CHOICES))
def test_tables_of_images_alone_are_those_before_any_network_or_tag(
    corpus: tuple[RunConfig, Snapshot], choice: str
) -> None:
    """Their rows are taken over by corpora with other tags."""
    plan = build_plan(config_of(corpus, choice), corpus[1])
    stages = {s.title: s.stage for s in plan if isinstance(s.stage, TableStage)}
    alone = {title for title, stage in stages.items() if stage.is_of_images_alone}
    assert alone == stages.keys() & {"saliency", "foreground", "superpixels"}


def test_every_image_has_one_row_in_every_table(done: Done) -> None:
    expected = sorted(f"train_{number:06d}" for number in range(6))
    for step in done.plan:
        if not step.stage.learns and step.splits == ("train",):
            assert sorted(table(done.plan, step.title)) == expected, step.title


def test_cues_of_untagged_images_are_skipped_and_those_of_bad_ones_are_errors(done: Done) -> None:
    for title in cue_titles(done.plan):
        rows = table(done.plan, title)
        statuses = {image_id: row["status"] for image_id, row in rows.items()}
        assert statuses.pop(UNTAGGED) == "skipped" and rows[UNTAGGED]["label"] is None, title
        assert statuses.pop(CORRUPT) == "error" and "unreadable" in rows[CORRUPT]["error"], title
        assert set(statuses.values()) == {"ok"}, title


def test_labels_are_background_tags_or_ignored(done: Done) -> None:
    for title in cue_titles(done.plan):
        for row in table(done.plan, title).values():
            if row["status"] == "ok":
                ids = set(np.unique(np.array(Image.open(io.BytesIO(row["label"])))).tolist())
                assert ids <= {0, *row["tags"], 255}, title


def test_every_cue_table_is_measured_and_the_report_is_written(done: Done) -> None:
    measured = {f"cues_{name}" for name in done.metrics["cues"]}
    assert measured == set(cue_titles(done.plan))
    assert all(found["miou"] is not None for found in done.metrics["cues"].values())
    measured = [name for name, m in done.metrics["cues"].items() if m.get("miou_s1") is not None]
    settings = done.plan.config.cues
    refined = {"affinity": "start", None: "phase0"}[settings.refine]
    assert measured == ([refined] if settings.method == "dcsp" else [])
    store = Store(done.plan.config.store)
    assert store.exists(f"runs/{done.plan.run_id}/report/index.html")


def test_what_hierarchical_saliency_brings_is_told_of_the_cues_that_it_made(
    corpus: tuple[RunConfig, Snapshot],
) -> None:
    """Not of those that AffinityNet made of them: its gain is its own."""
    plan = chain.compute(config_of(corpus, "dcsp refined by affinity"), corpus[1])
    cues = chain.evaluate(plan)["cues"]
    assert cues["start"]["miou_s1"] is not None
    assert cues["phase0"]["miou_s1"] is None and "miou_s1" not in cues["phase1"]


def test_cues_hold_the_version_of_the_rule_they_build_on(
    corpus: tuple[RunConfig, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build_plan(config_of(corpus, "builtin"), corpus[1]).cue_steps[0].stage.key
    monkeypatch.setattr("dcsp.cues.dcsp.VERSION", 1000)
    after = build_plan(config_of(corpus, "builtin"), corpus[1]).cue_steps[0].stage.key
    assert before.fingerprint != after.fingerprint


def test_all_that_is_computed_is_computed_once(done: Done) -> None:
    store = Store(done.plan.config.store)
    assert all(done.plan.is_done(store, step) for step in done.plan)


def test_methods_share_what_they_can(corpus: tuple[RunConfig, Snapshot]) -> None:
    plans = {choice: build_plan(config_of(corpus, choice), corpus[1]) for choice in CHOICES}
    for choice, plan in plans.items():
        assert plan.step("fcan").stage.key == plans["mcof"].step("fcan").stage.key, choice
    first, refined = plans["mcof"], plans["mcof refined by affinity"]
    assert first.step("cues_phase0").stage.key == refined.step("cues_start").stage.key
    assert first.run_id != refined.run_id


def test_algorithm_1_may_go_on_with_the_trained_network(
    corpus: tuple[RunConfig, Snapshot],
) -> None:
    plan = build_plan(config_of(corpus, "affinity, then Algorithm 1"), corpus[1])
    stage, network = plan.step("cues_phase1").stage, plan.step("joint_phase0").stage
    assert isinstance(stage, DCSPStage) and stage.phase == 1
    saliency = plan.step("saliency").stage.key.fingerprint
    assert set(stage.key.inputs.values()) == {network.key.fingerprint, saliency}
    tree = config_of(corpus, "mcof").model_dump(mode="json")
    tree["cues"]["adapt"] = {"dcsp": {}}
    seeds = build_plan(RunConfig.model_validate(tree), corpus[1]).step("cues_seeds1").stage
    assert isinstance(seeds, DCSPStage) and seeds.saliency


@pytest.mark.parametrize("choice", list(CHOICES))
@pytest.mark.parametrize("rule", [None, {}])
def test_a_step_that_several_ask_for_is_in_the_plan_once(
    corpus: tuple[RunConfig, Snapshot], choice: str, rule: dict[str, Any] | None
) -> None:
    tree = config_of(corpus, choice).model_dump(mode="json")
    tree["cues"]["adapt"] = {"dcsp": rule}
    titles = [step.title for step in build_plan(RunConfig.model_validate(tree), corpus[1])]
    assert len(set(titles)) == len(titles)


def with_selftags(corpus: tuple[RunConfig, Snapshot], choice: str, use: str) -> RunConfig:
    """Of a choice, lenient enough that networks of two steps find something."""
    tree = config_of(corpus, choice).model_dump(mode="json")
    tree["selftags"] |= {"use": use, "precision": 0.2, "min_support": 1, "calibrate": "train"}
    return RunConfig.model_validate(tree)


@pytest.mark.parametrize("choice", list(CHOICES))
@pytest.mark.parametrize("use", ["relabel", "train"])
def test_self_tags_leave_the_steps_of_every_method_as_they_are(
    corpus: tuple[RunConfig, Snapshot], choice: str, use: str
) -> None:
    plain = build_plan(config_of(corpus, choice), corpus[1])
    plan = build_plan(with_selftags(corpus, choice, use), corpus[1])
    own = [step.title for step in plan if step.title.startswith("selfcues_")]
    starts = ["selfcues_start"] if "selfcues_start" in own else []
    assert bool(starts) == (use == "train" and "affinity" in choice)
    both = [*starts, "selfcues_phase0", "selfcues_phase1"]
    assert own == (both if use == "train" else ["selfcues_phase1"])
    kept = [step for step in plan if step.title not in (*own, "tag_scores", "selftags")]
    assert [step.title for step in kept] == [step.title for step in plain]
    directories = [plan.step(title).stage.key.directory for title in own]
    assert all(directory.startswith("selfcues/") for directory in directories)
    joint = kept.index(plan.step("joint_phase0"))
    same = [step.stage.key.directory for step in (kept[:joint] if use == "train" else kept)]
    assert same == [step.stage.key.directory for step in plain.steps[: len(same)]]


def test_cues_that_start_from_others_are_mined_by_self_tags(
    corpus: tuple[RunConfig, Snapshot],
) -> None:
    plan = chain.compute(with_selftags(corpus, "mcof refined by affinity", "train"), corpus[1])
    selftags = table(plan, "selftags")[UNTAGGED]["selftags"]
    assert selftags
    for title in (step.title for step in plan if step.title.startswith("selfcues_")):
        rows = table(plan, title)
        found = rows.pop(UNTAGGED)
        assert (found["status"], found["tags"]) == ("ok", selftags), title
        ids = set(np.unique(np.array(Image.open(io.BytesIO(found["label"])))).tolist())
        assert ids <= {0, *selftags, 255}, title
        assert {row["status"] for row in rows.values()} == {"skipped"}, title


@pytest.mark.parametrize("refined", [0, 1, 2])
def test_saliency_refines_the_first_rounds_of_mcof(
    corpus: tuple[RunConfig, Snapshot], refined: int
) -> None:
    tree = config_of(corpus, "mcof").model_dump(mode="json")
    tree["cues"]["mcof"] |= {"rounds": 3, "refined_rounds": refined}
    plan = build_plan(RunConfig.model_validate(tree), corpus[1])
    keys = [plan.step(f"cues_phase{phase}").stage.key for phase in range(3)]
    assert ["saliency" in key.inputs for key in keys] == [phase < refined for phase in range(3)]


def test_a_method_is_not_refined_by_itself(corpus: tuple[RunConfig, Snapshot]) -> None:
    tree = corpus[0].model_dump(mode="json")
    tree["cues"] |= {"method": "affinity", "refine": "affinity"}
    with pytest.raises(ValueError, match="refined by itself"):
        RunConfig.model_validate(tree)


def test_without_a_detector_methods_that_need_one_say_so(
    corpus: tuple[RunConfig, Snapshot],
) -> None:
    tree = corpus[0].model_dump(mode="json")
    tree["saliency"]["detectors"] = []
    with pytest.raises(ConfigError, match=r"cues\.method=dcsp needs a saliency detector"):
        build_plan(RunConfig.model_validate(tree), corpus[1])
    tree["cues"] |= {"method": "affinity"}
    titles = [step.title for step in build_plan(RunConfig.model_validate(tree), corpus[1])]
    assert "saliency" not in titles


def test_every_method_of_the_settings_is_registered() -> None:
    from dcsp.config import CueSettings
    from dcsp.config import cues as config

    assert list(METHODS) == config.METHOD_NAMES
    assert set(METHODS) <= set(CueSettings.model_fields)
