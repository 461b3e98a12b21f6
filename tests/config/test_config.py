"""Settings: what is shipped is valid, what is wrong is named with its value and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcsp.config import DCSPSettings, FCANSettings, GateSettings, RunConfig, TrainSettings
from dcsp.config.file import dump_config, load_config, parse_config
from dcsp.errors import ConfigError
from dcsp.labels import VOC_CLASSES
from dcsp.run.plan import build_plan
from dcsp.tables.snapshot import CorpusPart, Snapshot

GIVEN = {"folder": ["corpus.classes=[cat, dog]"]}
"""Shipped config → what it says must be given to it."""
SHIPPED = sorted((Path(__file__).parents[2] / "jobs/configs").glob("*.yaml"))
PAPER = [path for path in SHIPPED if path.stem.startswith("voc12_")]
BASE: dict[str, Any] = {"store": "./store", "corpus": {"kind": "scenes"}}


def tree(**settings: Any) -> dict[str, Any]:
    """A minimal config with settings as ``block__key=value``."""
    config: dict[str, Any] = {**BASE, "corpus": dict(BASE["corpus"])}
    for path, value in settings.items():
        *blocks, key = path.split("__")
        node = config
        for block in blocks:
            node = node.setdefault(block, {})
        node[key] = value
    return config


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree(**settings))
    text = str(caught.value)
    assert "\n" not in text and "pydantic" not in text
    return text


def shipped(path: Path) -> RunConfig:
    return load_config(path, GIVEN.get(path.stem, []))


# --- what is shipped ------------------------------------------------------------------------------


def test_a_folder_is_learned_with_the_settings_that_were_measured() -> None:
    own = ("store", "name", "corpus", "predict", "report", "cluster")
    folder, measured = (
        config.model_dump(exclude={*own}) | {"cues": config.cues.model_dump(exclude={"compare"})}
        for config in map(shipped, SHIPPED)
        if config.name in ("folder", "voc676")
    )
    assert folder == measured
    assert {"network", "saliency", "fcan", "joint", "cues", "precision"} <= set(folder)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = shipped(path)
    again = tmp_path / "resolved.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(again) == config
    assert load_config(again).model_dump(mode="json") == config.model_dump(mode="json")


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_papers_configs_are_the_defaults_written_out(path: Path) -> None:
    """Section 5.1: whoever leaves a setting out gets the paper's, but for tags that label."""
    config = load_config(path)
    paper = RunConfig(store=config.store, corpus=config.corpus)
    same = {"fcan", "joint", "cues", "saliency", "predict", "network"}
    ours, default = config.model_dump(include=same), paper.model_dump(include=same)
    for stage in ("fcan", "joint"):
        del ours[stage]["checkpoint_every"], default[stage]["checkpoint_every"]
    for name in ("splits", "tags"):
        del ours["predict"][name], default["predict"][name]
    if "vgg16" in path.stem:
        assert ours["network"].pop("backbone") == "vgg16"
        assert default["network"].pop("backbone") == "resnet101"
    assert ours == default


def test_the_papers_schedule_is_what_is_left_out() -> None:
    config = parse_config(tree(fcan__batch=4, joint__batch=4))
    assert (config.fcan.steps, config.joint.steps) == (30_000, 10_000)
    assert FCANSettings().model_dump(exclude={"steps"}) == TrainSettings().model_dump(
        exclude={"steps"}
    )


def test_saliency_passes_are_one_more_than_thresholds() -> None:
    assert parse_config(BASE).saliency.passes == 3
    one = parse_config(tree(saliency__thresholds=[], cues__dcsp__saliency_pass=1))
    assert one.saliency.passes == 1


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fcna": {}}, ["'fcna'", "did you mean 'fcan'?"]),
        ({"joint__stepz": 3}, ["'joint.stepz'", "did you mean 'steps'?"]),
        ({"cues__dcsp__attention__flipp": 1}, ["cues.dcsp.attention.flipp", "'flip'"]),
        ({"cues__compare__soft__gama_low": 1}, ["cues.compare.soft.gama_low", "'gamma_low'"]),
        ({"saliency__detectors": [{"modle": "x"}]}, ["saliency.detectors.0.modle", "'model'"]),
        ({"corpus__zzz": 1}, ["unknown setting 'corpus.zzz'"]),
        ({"corpus__aliases": {"kitty": "cat"}}, ["which is now corpus.synonyms: write {class: ["]),
        (
            {"selftags__use": "train", "fcan__classification_weight": 0},
            ["fcan.classification_weight=0", "set selftags.source=probabilities"],
        ),
        ({"fcan__steps": 0}, ["fcan.steps=0", "greater than or equal to 1"]),
        ({"fcan__steps": 2.5}, ["fcan.steps=2.5", "integer"]),
        ({"fcan__learning_rate": "fast"}, ["fcan.learning_rate='fast'", "number"]),
        ({"fcan__learning_rate": float("inf")}, ["fcan.learning_rate=inf", "finite"]),
        ({"fcan__learning_rate": float("nan")}, ["fcan.learning_rate=nan", "finite"]),
        ({"fcan__scale": [1.5, 0.5]}, ["fcan.scale=[1.5, 0.5]", "(smallest, largest)"]),
        ({"joint": 3}, ["joint=3"]),
        ({"corpus__kind": "voce"}, ["corpus.kind='voce'", "'voc'"]),
        ({"corpus__kind": "voc"}, ["corpus.kind=voc", "needs corpus.root"]),
        ({"corpus__classes": ["cat", "Cat"]}, ["corpus.classes", "'Cat'", "mean the same"]),
        ({"corpus__classes": ["background", "cat"]}, ["'background'", "id 0 already"]),
        ({"corpus__classes": []}, ["corpus.classes=[]", "at least 1"]),
        ({"corpus__synonyms": {"cat": ["dog"]}}, ["'dog'", "'cat'", "already means 'dog'"]),
        ({"corpus__synonyms": {"cta": "kitty"}}, ["'kitty'", "'cta'", "not in corpus.classes"]),
        ({"corpus__max_rejected_share": 2}, ["corpus.max_rejected_share=2"]),
        ({"network__output_stride": 32}, ["network.output_stride=32", "8 or 16"]),
        ({"network__branch_kernel": 1}, ["network", "branch_kernel=1", "atrous_rates=[1]"]),
        ({"saliency__thresholds": [0.7, 8]}, ["saliency.thresholds.1=8"]),
        ({"predict__scales": []}, ["predict.scales=[]", "at least 1"]),
        ({"predict__splits": []}, ["predict.splits=[]", "at least 1"]),
        ({"predict__splits": ["test"]}, ["predict.splits.0='test'", "'train' or 'val'"]),
        ({"cues__dcsp__gamma_low": 0.9}, ["cues.dcsp", "gamma_low (0.9)", "gamma_high (0.4)"]),
        (
            {"cues__dcsp__mean": "arithmetic", "cues__dcsp__saliency_pass": 0},
            ["cues.dcsp", "saliency_pass=0", "leave mean out"],
        ),
        ({"cues__dcsp__saliency_pass": 4}, ["cues.dcsp.saliency_pass is 4", "3 passes"]),
        (
            {"cues__compare__late__saliency_pass": 9},
            ["cues.compare.late.saliency_pass is 9", "3 passes", "add a threshold"],
        ),
        (
            {"cues__adapt__dcsp__saliency_pass": 4},
            ["cues.adapt.dcsp.saliency_pass is 4", "3 passes"],
        ),
        (
            {"cues__mcof__seeds__saliency_pass": 5},
            ["cues.mcof.seeds.saliency_pass is 5", "3 passes"],
        ),
        (
            {"cues__adapt__dcsp__crf": True, "cues__adapt__flip": True},
            ["cues.adapt", "adapt.flip would do nothing", "adapt.dcsp.attention"],
        ),
        (
            {"saliency__thresholds": [0.5], "cues__dcsp__saliency_pass": 2, "cues__compare__x": {}},
            ["cues.compare.x.saliency_pass is 3", "only 2 passes"],
        ),
        ({"cues__compare": {"phase0": {}}}, ["'phase0'", "the run's own"]),
        ({"cues__compare": {"phase1_s1": {}}}, ["'phase1_s1'", "the run's own"]),
        ({"cues__compare": {"My cues": {}}}, ["cues.compare.My cues", "pattern"]),
        ({"name": "../other"}, ["name='../other'", "pattern"]),
        ({"name": ""}, ["name=''"]),
        ({"store": ""}, ["store=''", "at least 1"]),
        ({"corpus__root": "https://h/photos"}, ["corpus.root='https://h", "in buckets"]),
        ({"corpus__tags": ["a.csv", "filecache::s3://b/t.csv"]}, ["corpus.tags.1", "in buckets"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"cluster__stall_minutes": 0}, ["cluster.stall_minutes=0", "greater than 0"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_key_and_value(wrong: dict[str, Any], words: list[str]) -> None:
    text = refusal(**wrong)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    "key", ["store", "corpus__root", "corpus__tags", "corpus__masks", "network__weights"]
)
@pytest.mark.parametrize(
    "url",
    [
        "s3://me:hunter2@bucket/x",
        "https://host/x.pth?X-Amz-Signature=hunter2",
        "gs://bucket/x?a=b&sig=hunter2",
        "s3://me:hunter2/x@bucket/p",
        "s3://hunter2@host/x.pth",
        "s3://host/x?X-Goog-Credential=hunter2",
        "s3://host/x?api_key=hunter2",
    ],
)
def test_secrets_are_refused_and_not_shown(key: str, url: str) -> None:
    text = refusal(**{key: url})
    assert key.replace("__", ".") in text and "holds credentials" in text
    assert "hunter2" not in text


def test_places_without_secrets_are_taken() -> None:
    places = ["s3://bucket/a@b/c", "abfs://photos@me.dfs.core.windows.net/x", "/a:b@c", "b?c=d"]
    assert parse_config(tree(corpus__tags=places)).corpus.tags == tuple(places)
    assert parse_config(tree(corpus__tags=None)).corpus.tags == ()


def test_every_fault_is_told_at_once() -> None:
    text = refusal(fcan__steps=0, joint__stepz=3, nmae="x")
    assert all(word in text for word in ("fcan.steps=0", "'joint.stepz'", "'nmae'"))


def test_what_is_required_is_named() -> None:
    with pytest.raises(ConfigError, match="the setting 'store' is required"):
        parse_config({"corpus": {"kind": "scenes"}})
    with pytest.raises(ConfigError, match=r"the setting 'corpus\.kind' is required"):
        parse_config({"store": "x", "corpus": {}})


def test_names_near_phase_are_free_for_comparison() -> None:
    config = parse_config(tree(cues__compare={"phased": {}, "s1": {"saliency_pass": 1}}))
    assert config.cues.compare["s1"] == DCSPSettings(saliency_pass=1)


def test_settings_cannot_be_changed_after_they_were_checked() -> None:
    config = parse_config(BASE)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 5  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["folder", "parquet", "webdataset"])
def test_classes_are_asked_for_where_the_corpus_does_not_know_them(kind: str) -> None:
    own = {"corpus__kind": kind, "corpus__root": "photos"}
    assert f"corpus.kind={kind} needs corpus.classes" in refusal(**own)
    assert parse_config(tree(**own, corpus__classes="voc")).corpus.classes == VOC_CLASSES
    assert parse_config(tree(corpus__kind="voc", corpus__root="a")).corpus.classes == VOC_CLASSES


def test_gates_and_who_is_told_change_no_run_and_no_fingerprint() -> None:
    snapshot = Snapshot(("cat",), (CorpusPart("aa", "train", 4), CorpusPart("bb", "val", 2)))
    corpus = {"kind": "scenes"}
    plain = build_plan(parse_config(tree(corpus=corpus)), snapshot)
    gates = {name: 0.5 if "miou" not in name else 50 for name in GateSettings.model_fields}
    told = {"url": "https://host/hook", "command": "tell me"}
    for more in ({"gates": gates}, {"publish": "never"}, {"notify": told}):
        other = build_plan(parse_config(tree(corpus=corpus, **more)), snapshot)
        assert other.run_id == plain.run_id
        assert [s.stage.key for s in other] == [s.stage.key for s in plain]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gates": {"min_miou": 101}}, "gates.min_miou=101: "),
        ({"gates": {"max_changed_share": -0.1}}, "gates.max_changed_share=-0.1: "),
        ({"gates": {"max_changed_share": 20}}, "less than or equal to 1"),
        ({"gates": {"min_iou": 1}}, "did you mean 'min_miou'?"),
        ({"publish": "sometimes"}, "publish='sometimes': "),
        ({"notify": {"command": "tell 's3cr3t"}}, "notify.command: a quote in it does not close"),
        ({"notify": {"command": " "}}, "notify.command: it is empty"),
        ({"notify": {"url": "hooks.example.org/s3cr3t"}}, "notify.url: write an address such as"),
        ({"notify": {"url": "file:///s3cr3t"}}, "notify.url: write an address such as"),
        ({"notify": {"url": "https://me:s3cr3t@host/"}}, "without a user and password"),
        ({"notify": {"url": "https://host:s3cr3t/"}}, "notify.url: write an address such as"),
        ({"notify": {"url": "https://host/a b s3cr3t"}}, "notify.url: write an address such as"),
    ],
)
def test_wrong_gates_and_addresses_are_told_without_secrets(
    wrong: dict[str, Any], words: str
) -> None:
    told = refusal(**wrong)
    assert words in told and "s3cr3t" not in told


def test_who_is_told_is_no_part_of_a_dumped_config() -> None:
    config = parse_config(tree(notify={"url": "https://host/s3cr3t", "command": "tell s3cr3t"}))
    assert config.notify.url == "https://host/s3cr3t" and "s3cr3t" not in dump_config(config)
