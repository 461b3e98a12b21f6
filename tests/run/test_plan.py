"""Which stages a setting decides, and which it leaves as they are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcsp.config import RunConfig
from dcsp.config.file import parse_config
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import CorpusError, WeightsError
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import begin_stage
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import CARD_FILE, COMPLETE_FILE, manifest_file, part_file
from dcsp.tables.snapshot import CorpusPart, Snapshot
from dcsp.training.recipe import ScoreRecipe
from dcsp.training.stage import TrainStage

SNAPSHOT = Snapshot(
    ("cat", "dog"),
    (
        CorpusPart("aa", "train", 4, "truth/aa-1.parquet"),
        CorpusPart("bb", "train", 3),
        CorpusPart("cc", "val", 2, "truth/cc-1.parquet"),
    ),
)
AFTER_SALIENCY = [
    "fcan",
    "cues_phase0",
    "joint_phase0",
    "cues_phase1",
    "joint_phase1",
    "predictions",
    "trust",
]
AFTER_FCAN = AFTER_SALIENCY[1:]
AFTER_CUES = AFTER_SALIENCY[2:]
AFTER_JOINT = AFTER_SALIENCY[3:]
ALL = ["saliency", *AFTER_SALIENCY]
RUN = "the run's name"

SCOPE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "gamma": ({"cues.dcsp": {"gamma_low": 0.3}}, AFTER_FCAN),
    "saliency pass": ({"cues.dcsp": {"saliency_pass": 1}}, AFTER_FCAN),
    "attention scales": ({"cues.dcsp": {"attention": {"scales": [1]}}}, AFTER_FCAN),
    "CRF of cues": ({"cues.dcsp": {"crf": True}}, AFTER_FCAN),
    "kernels of a CRF that labels alone use": (
        {"cues": {"crf": {"iterations": 3}}},
        ["predictions", "trust", RUN],
    ),
    "thresholds": ({"saliency": {"thresholds": [0.7, 0.9]}}, ["saliency", *AFTER_FCAN]),
    "detector card": ({"saliency.detectors": {"scale": "255"}}, ["saliency", *AFTER_FCAN]),
    "backbone": ({"network": {"backbone": "resnet50"}}, AFTER_SALIENCY),
    "longest side": ({"network": {"max_side": 500}}, AFTER_SALIENCY),
    "weights": ({"network": {"weights": "imagenet"}}, AFTER_SALIENCY),
    "precision": ({"precision": {"autocast": "fp32"}}, AFTER_SALIENCY),
    "seed": ({"seed": 1}, AFTER_SALIENCY),
    "steps of the FCAN": ({"fcan": {"steps": 7}}, AFTER_SALIENCY),
    "steps of joint training": ({"joint": {"steps": 7}}, AFTER_CUES),
    "joint saliency loss": ({"joint": {"saliency_weight": 1.0}}, AFTER_CUES),
    "steps between checkpoints": (
        {"fcan": {"checkpoint_every": 7}, "joint": {"checkpoint_every": 7}},
        [],
    ),
    "scales of adaptation": ({"cues.adapt": {"scales": [1]}}, AFTER_JOINT),
    "CRF of adaptation": ({"cues.adapt": {"crf": True}}, AFTER_JOINT),
    "scales of prediction": ({"predict": {"scales": [1]}}, ["predictions", "trust"]),
    "CRF of prediction": ({"predict": {"crf": False}}, ["predictions", "trust"]),
    "kernels of prediction": (
        {"predict.crf_settings": {"iterations": 3}},
        ["predictions", "trust"],
    ),
    "splits to label": ({"predict": {"splits": ["val"]}}, [RUN]),
    "gallery": ({"report": {"gallery": 3}}, [RUN]),
    "name": ({"name": "other"}, [RUN]),
    "store": ({"store": "s3://elsewhere/x"}, []),
    "cluster": (
        {"cluster": {"address": "ray://x", "actors": 3, "train_workers": 5, "stall_minutes": 1}},
        [],
    ),
    "limits of ingest": ({"corpus": {"max_rejected_share": 1, "max_pixels": 5}}, []),
}


def config(changes: dict[str, Any] | None = None) -> RunConfig:
    tree: dict[str, Any] = {
        "store": "x",
        "corpus": {"kind": "scenes"},
        "network": {"backbone": "resnet18", "weights": "random"},
    }
    for path, values in (changes or {}).items():
        if not isinstance(values, dict):
            tree[path] = values
            continue
        node = tree
        for step in path.split("."):
            node = node.setdefault(step, {})
        node.update(values)
    return parse_config(tree)


def plan(changes: dict[str, Any] | None = None, snapshot: Snapshot = SNAPSHOT) -> Plan:
    return build_plan(config(changes), snapshot)


def prints(made: Plan) -> dict[str, str]:
    return {step.title: step.stage.key.fingerprint for step in made}


def changed(before: Plan, after: Plan) -> list[str]:
    """Titles of steps whose output is another one, in order."""
    old, new = prints(before), prints(after)
    assert list(old) == list(new)
    return [title for title in old if old[title] != new[title]]


@pytest.mark.parametrize(("changes", "expected"), SCOPE.values(), ids=SCOPE)
def test_a_setting_decides_these_stages_and_no_other(
    changes: dict[str, Any], expected: list[str]
) -> None:
    before, after = plan(), plan(changes)
    assert changed(before, after) == [title for title in expected if title != RUN]
    assert (before.run_id != after.run_id) == bool(expected)


LEARNING = {"fcan": {"saliency_weight": 2.0}}


@pytest.mark.parametrize(
    "changes",
    [{"saliency": {"thresholds": [0.7, 0.9]}}, {"cues.dcsp": {"saliency_pass": 1}}],
    ids=str,
)
def test_a_network_that_learns_saliency_depends_on_it(changes: dict[str, Any]) -> None:
    assert "fcan" in changed(plan(LEARNING), plan(LEARNING | changes))
    assert "fcan" not in changed(plan(), plan(changes))


def test_kernels_decide_where_a_crf_is_used() -> None:
    on = {"cues.dcsp": {"crf": True}}
    kernels = {"cues": {"crf": {"iterations": 3}, "dcsp": {"crf": True}}}
    assert changed(plan(on), plan(kernels)) == AFTER_FCAN
    off = {"predict": {"crf": False}}
    unused = {"predict": {"crf": False, "crf_settings": {"iterations": 3}}}
    assert changed(plan(off), plan(unused)) == []


def test_a_file_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"the same detector")
    (tmp_path / "c.onnx").write_bytes(b"another")
    files = [str(tmp_path / name) for name in ("a.onnx", "b.onnx", "c.onnx")]
    plans = [plan({"saliency.detectors": {"model": file}}) for file in files]
    assert changed(plans[0], plans[1]) == []
    assert changed(plans[0], plans[2]) == ["saliency", *AFTER_FCAN]
    digest = hashlib.sha256(b"the same detector").hexdigest()
    assert plans[0].step("saliency").stage.key.weights == {"detector": digest}


def test_missing_weights_are_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There are no weights"):
        plan({"network": {"weights": str(tmp_path / "none.pth")}})
    with pytest.raises(WeightsError, match="There are no weights"):
        plan({"saliency.detectors": {"model": "u2netpp"}})


# --- the corpus -----------------------------------------------------------------------------------


def with_parts(*parts: CorpusPart) -> Snapshot:
    return replace(SNAPSHOT, parts=parts)


AA, BB, CC = SNAPSHOT.parts
CORPORA = {
    "it grew": (with_parts(AA, BB, CC, CorpusPart("dd", "train", 4)), AFTER_SALIENCY),
    "it shrank": (with_parts(AA, CC), AFTER_SALIENCY),
    "val grew": (with_parts(AA, BB, CC, CorpusPart("dd", "val", 4)), []),
    "other masks": (with_parts(replace(AA, truth="truth/aa-2.parquet"), BB, CC), []),
    "no masks": (with_parts(replace(AA, truth=None), BB, replace(CC, truth=None)), []),
    "other classes": (replace(SNAPSHOT, classes=("cat", "cow")), AFTER_SALIENCY),
}


@pytest.mark.parametrize(("snapshot", "expected"), CORPORA.values(), ids=CORPORA)
def test_what_a_changed_corpus_changes(snapshot: Snapshot, expected: list[str]) -> None:
    before, after = plan(), plan(snapshot=snapshot)
    assert changed(before, after) == expected
    assert before.run_id != after.run_id


def test_a_grown_corpus_shares_tables_of_the_same_network() -> None:
    """Cues are a function of network and settings: old parts lie in the same directory."""
    before = plan()
    grown = plan(snapshot=CORPORA["it grew"][0])
    fcan, saliency = (before.step(title).stage.key for title in ("fcan", "saliency"))
    again = DCSPStage(grown.config, grown.config.cues.dcsp, fcan, saliency)
    assert again.key.directory == before.step("cues_phase0").stage.key.directory
    assert grown.step("saliency").stage.key.directory == saliency.directory


def test_no_stage_reads_ground_truth() -> None:
    for step in plan(LEARNING | {"joint": {"saliency_weight": 1.0}, "cues.dcsp": {"crf": True}}):
        tables = {source.directory.split("/")[0] for source in step.stage.inputs}
        assert tables <= {"corpus", "saliency", "cues", "predictions"}, step.title
        assert "truth" not in str(step.stage.key.as_dict())


def test_a_corpus_without_training_images_is_told() -> None:
    snapshot = with_parts(CC)
    with pytest.raises(CorpusError, match="no images of the split 'train'") as caught:
        plan({"store": "./photos-store"}, snapshot)
    rejected = f"./photos-store/corpus/{snapshot.fingerprint}.rejected.parquet"
    assert str(caught.value).endswith(f"the table of what was rejected, {rejected}.")


def test_a_corpus_without_tags_is_told() -> None:
    with pytest.raises(CorpusError, match=r"No image of the split 'train' has a tag: .*tags\.csv"):
        plan(snapshot=replace(SNAPSHOT, counts={"cat": 0, "dog": 0}))
    for counts in ({}, {"cat": 1, "dog": 0}):  # nobody counted; one is enough
        assert plan(snapshot=replace(SNAPSHOT, counts=counts)).run_id == plan().run_id


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_each_round_adapts_cues_and_trains_again(rounds: int) -> None:
    made = plan({"cues.adapt": {"rounds": rounds}})
    phases = [
        title
        for phase in range(rounds + 1)
        for title in (f"cues_phase{phase}", f"joint_phase{phase}")
    ]
    assert [step.title for step in made] == ["saliency", "fcan", *phases, "predictions", "trust"]
    assert [step.title for step in made.cue_steps] == phases[::2]
    assert made.model.title == f"joint_phase{rounds}"
    model = made.model.key.fingerprint
    saliency = made.step("saliency").stage.key.fingerprint
    assert made.step("predictions").stage.key.inputs == {"network": model, "saliency": saliency}
    known = prints(plan({"cues.adapt": {"rounds": 3}}))
    last = ("predictions", "trust")
    shared = {title: name for title, name in prints(made).items() if title not in last}
    assert shared.items() <= known.items()  # another round goes on from the one before


def test_the_chain_is_the_papers() -> None:
    """4.3: joint training starts from the FCAN, adaptation from the joint network, and so on."""
    made = plan()

    def train(title: str) -> TrainStage:
        stage = made.step(title).stage
        assert isinstance(stage, TrainStage)
        return stage

    def directory(title: str) -> str:
        return made.step(title).stage.key.directory

    assert isinstance(train("fcan").recipe, ScoreRecipe) and train("fcan").initial is None
    assert train("fcan").tables == () and not train("fcan").recipe.learns_cues
    for phase, before in ((0, "fcan"), (1, "joint_phase0")):
        joint = train(f"joint_phase{phase}")
        assert joint.recipe.learns_cues and joint.settings == made.config.joint
        assert joint.initial.directory == directory(before)
        assert [t.key.directory for t in joint.tables] == [directory(f"cues_phase{phase}")]
    assert directory("saliency") in [s.directory for s in made.step("cues_phase0").stage.inputs]
    assert [s.directory for s in made.step("cues_phase1").stage.inputs] == ["corpus/parts"]


def test_compared_cues_stand_beside_those_that_are_trained_on() -> None:
    compare = {"cues.compare": {"s1": {"saliency_pass": 1}, "same": {}}}
    made = plan(compare)
    titles = [step.title for step in made]
    assert titles[2:5] == ["cues_s1", "cues_same", "cues_phase0"]
    found = prints(made)
    assert found["cues_same"] == found["cues_phase0"] != found["cues_s1"]
    kept = {title: name for title, name in found.items() if title in prints(plan())}
    assert kept == prints(plan()) and made.run_id != plan().run_id


def test_a_step_works_on_the_parts_of_its_splits() -> None:
    made = plan()
    assert [p.name for p in made.step("cues_phase0").parts(SNAPSHOT)] == ["aa", "bb"]
    assert [p.name for p in made.step("predictions").parts(SNAPSHOT)] == ["aa", "bb", "cc"]
    only_val = plan({"predict": {"splits": ["val"]}}).step("predictions")
    assert [p.name for p in only_val.parts(SNAPSHOT)] == ["cc"]
    assert made.step("cues_phase0").scope(SNAPSHOT) != made.step("predictions").scope(SNAPSHOT)
    assert not made.step("saliency").needs_snapshot and made.step("fcan").needs_snapshot


@pytest.mark.parametrize(
    ("predict", "parts"),
    [
        ({}, ["aa", "bb", "cc"]),
        ({"splits": ["val"]}, ["aa", "bb", "cc"]),
        ({"splits": ["train"]}, ["aa", "bb"]),
        ({"tags": "ignore"}, ["aa", "bb"]),
    ],
    ids=str,
)
def test_saliency_is_made_of_all_that_cues_and_labels_read(
    predict: dict[str, Any], parts: list[str]
) -> None:
    step = plan({"predict": predict}).step("saliency")
    assert [part.name for part in step.parts(SNAPSHOT)] == parts


def test_labels_are_others_where_other_classes_are_shown() -> None:
    """The networks and all cues are the same: they know each class and each distractor alike."""
    corpora = (
        {"classes": ["cat", "dog"], "distractors": ["cow"]},
        {"classes": ["cat"], "distractors": ["dog", "cow"]},
    )
    snapshot = replace(SNAPSHOT, classes=("cat", "dog", "cow"))
    one, two = (plan({"corpus": corpus}, snapshot) for corpus in corpora)
    assert changed(one, two) == ["predictions", "trust"] and one.run_id != two.run_id
    assert one.until("cues_phase0").run_id != two.until("cues_phase0").run_id


def test_a_run_is_named_after_what_it_asks_for() -> None:
    assert plan({"name": "voc"}).run_id.startswith("voc-")
    assert plan().run_id == plan().run_id


def test_a_table_is_done_once_it_says_so_and_has_all_its_parts(tmp_path: Path) -> None:
    store, step = Store(tmp_path), plan({"predict": {"tags": "ignore"}}).step("saliency")
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 7 and not step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )
    begin_stage(store, step.stage.key)
    store.write_bytes(part_file(step.stage.key.directory, "aa"), b"x")
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 3 and not step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )
    store.write_bytes(part_file(step.stage.key.directory, "bb"), b"x")
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 0 and not step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )
    store.write_json(manifest_file(step.stage.key, step.scope(SNAPSHOT)), {})
    assert step.stage.is_done(store, step.parts(SNAPSHOT))
    assert not step.stage.is_done(store, step.parts(CORPORA["it grew"][0]))
    assert step.stage.left(store, step.parts(CORPORA["it grew"][0])) == 4
    store.remove(part_file(step.stage.key.directory, "aa"))  # as our messages advise
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 4 and not step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )


def test_a_training_is_done_once_it_says_so(tmp_path: Path) -> None:
    store, step = Store(tmp_path), plan({"fcan": {"steps": 5, "batch": 3}}).step("fcan")
    store.write_bytes(f"{step.stage.key.directory}/model.safetensors", b"x")
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 15 and not step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )
    for file in (CARD_FILE, COMPLETE_FILE):
        store.write_json(f"{step.stage.key.directory}/{file}", {})
    assert step.stage.left(store, step.parts(SNAPSHOT)) == 0 and step.stage.is_done(
        store, step.parts(SNAPSHOT)
    )


def test_what_a_step_reads_follows_from_keys_alone() -> None:
    made = plan(LEARNING | {"cues.compare": {"same": {}}})
    reads = {step.title: [other.title for other in made.reads(step)] for step in made}
    assert reads["saliency"] == [] and reads["fcan"] == ["saliency"]
    assert reads["cues_phase0"] == reads["cues_same"] == ["saliency", "fcan"]
    assert reads["joint_phase0"] == ["fcan", "cues_phase0"], "each output once"
    assert reads["predictions"] == ["saliency", "joint_phase1"]
    behind = [step.title for step in made.behind(made.step("joint_phase0"))]
    assert behind == ["saliency", "fcan", "cues_phase0", "joint_phase0"]


def test_self_tags_read_the_scores_that_they_are_calibrated_on() -> None:
    made = plan({"selftags": {"use": "train", "source": "probabilities"}, **LEARNING})
    (selftags,) = made.of(Role.SELFTAGS)
    assert [step.role for step in made.reads(selftags)] == [Role.FCAN, Role.TAG_SCORES]
    (first, *_) = made.of(Role.SELFCUES)
    assert {step.role for step in made.reads(first)} == {Role.MAPS, Role.FCAN, Role.SELFTAGS}
