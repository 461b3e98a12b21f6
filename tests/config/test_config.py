"""Settings: what is shipped is valid, what is wrong is named with its value and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.config import DCSPSettings, FCANSettings, RunConfig, TrainSettings
from dcsp.config.file import dump_config, load_config, parse_config
from dcsp.errors import ConfigError
from dcsp.labels import VOC_CLASSES

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


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return path


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


# --- files and overrides --------------------------------------------------------------------------


def test_overrides_replace_single_settings(config_file: Path) -> None:
    config = load_config(
        config_file,
        [
            "store=s3://bucket/prefix=odd",
            "corpus.limit=100",
            "fcan.learning_rate=1e-4",
            "joint.scale=[0.75, 1.25]",
            "cues.compare.s1={saliency_pass: 1}",
            "cues.compare.soft.gamma_low=0.2",
            "predict.crf=false",
            "corpus.limit=7",
        ],
    )
    assert config.store == "s3://bucket/prefix=odd" and config.corpus.limit == 7
    assert config.fcan.learning_rate == 1e-4 and config.joint.scale == (0.75, 1.25)
    assert config.cues.compare["s1"].saliency_pass == 1
    assert config.cues.compare["soft"].gamma_low == 0.2 and not config.predict.crf


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("corpus.limit", ["'corpus.limit'", "must look like"]),
        ("=3", ["'=3'", "must look like"]),
        ("corpus..limit=3", ["must look like"]),
        ("store.url=x", ["'store.url=x'", "goes through 'store', which is a value"]),
        ("corpus.limit={", ["'corpus.limit={'", "cannot be read: it must end in }"]),
        ("corpus.limit=", ["'corpus.limit='", "it is empty: write null for none"]),
        ("saliency.detectors=[u2netp] #1", ["must end in ]"]),
        ("fcan={steps: 1, steps: 2}", ["'steps' is there twice"]),
        ("corpus.classes=cat", ["corpus.classes='cat': write a list, such as [a, b]"]),
        ("preset=[fast]", ["preset=['fast'] is none of"]),
        ("perset=fast", ["'perset'", "did you mean 'preset'?"]),
        ("fcan.steps=true", ["fcan.steps='true'", "valid integer"]),
        ("fcan.steps=1:30", ["fcan.steps='1:30'", "valid integer"]),
        ("corpus.limt=3", ["'corpus.limt'", "did you mean 'limit'?"]),
        ("corpus.limit=many", ["corpus.limit='many'"]),
    ],
)
def test_bad_overrides_are_told(config_file: Path, override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, [override])
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_override_changes_one_of_two_blocks_that_yaml_shares(tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text(
        "store: x\ncorpus: {kind: scenes}\nfcan: &train {steps: 5, crop: 64}\njoint: *train\n"
    )
    config = load_config(path, ["joint.steps=7"])
    assert (config.fcan.steps, config.joint.steps, config.joint.crop) == (5, 7, 64)


@pytest.mark.parametrize(
    "written",
    [
        *("/photos #1", "/a: b", "*x", "&x", "!x", "%x", "@x", "'tis", "- a", "? x", "| x"),
        *("C:\\photos", "1e3", "010", "1_000", "1:30", "2026-01-01", "on", "no", "true", "None"),
        *(".inf", "a\tb", "="),
    ],
)
def test_an_override_is_the_text_as_it_stands(config_file: Path, written: str) -> None:
    folder = ["corpus.kind=folder", "corpus.classes=[cat]", f"corpus.root={written}"]
    assert load_config(config_file, folder).corpus.root == written


NAMES = ("no", "1", "null", "~", "1e3", "010", "2026-01-01", "on", "1:30", "=", "true")


def test_class_names_stay_as_they_are_written(config_file: Path, tmp_path: Path) -> None:
    inside = f"[{', '.join(NAMES)}]"
    assert load_config(config_file, [f"corpus.classes={inside}"]).corpus.classes == NAMES
    path = tmp_path / "names.yaml"
    path.write_text(
        f"store: 010\nname: 2026-01-01\ncorpus:\n  kind: scenes\n  classes: {inside}\n"
        "  synonyms: {no: [off, 2], 1: yes, on: }\n"
    )
    config = load_config(path)
    assert (config.store, config.name, config.corpus.classes) == ("010", "2026-01-01", NAMES)
    assert config.corpus.synonyms == {"no": ("off", "2"), "1": ("yes",), "on": ()}
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_the_setting_says_what_a_text_means(config_file: Path) -> None:
    config = load_config(
        config_file,
        [
            *("predict.crf=no", "predict.flip=on", "fcan.steps=010", "joint.steps=1_000"),
            *("fcan.learning_rate=1e-4", "retrain=0.1", "network.max_side=null", "name='null'"),
            *("network.output_stride=16", "network.branch_kernel=1", "network.atrous_rates=[1]"),
            *("saliency.detectors={model: a.onnx, scale: 255}", "cues.refine=null"),
        ],
    )
    assert (config.predict.crf, config.predict.flip) == (False, True)
    assert (config.fcan.steps, config.joint.steps, config.retrain) == (10, 1000, 0.1)
    assert (config.fcan.learning_rate, config.network.max_side) == (1e-4, None)
    assert (config.network.output_stride, config.network.branch_kernel) == (16, 1)
    assert (config.name, config.cues.refine) == ("null", None)
    assert config.saliency.detectors[0].scale == "255"


@pytest.mark.parametrize("kind", ["folder", "parquet", "webdataset"])
def test_classes_are_asked_for_where_the_corpus_does_not_know_them(kind: str) -> None:
    own = {"corpus__kind": kind, "corpus__root": "photos"}
    assert f"corpus.kind={kind} needs corpus.classes" in refusal(**own)
    assert parse_config(tree(**own, corpus__classes="voc")).corpus.classes == VOC_CLASSES
    assert parse_config(tree(corpus__kind="voc", corpus__root="a")).corpus.classes == VOC_CLASSES


PLACES = ("store", "corpus__root", "corpus__masks", "network__weights")
MANY_PLACES = ("corpus__tags", "saliency__detectors")


@pytest.mark.parametrize("key", [*PLACES, *MANY_PLACES])
def test_home_is_expanded_wherever_a_path_is_given(key: str) -> None:
    value: Any = parse_config(tree(**{key: "~/x", "cues__dcsp__saliency_pass": 1}))
    for step in key.split("__"):
        value = getattr(value, step)
    first = value[0] if isinstance(value, tuple) else value
    assert getattr(first, "model", first) == str(Path.home() / "x")
    assert "holds the variable $HOME" in refusal(**{key: "$HOME/x"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("store: s\ncorpus: {}\ncorpus: {}\n", "line 3: 'corpus' is there twice, first in line 2"),
        ("store: s\ncorpus:\n  root: a\n  'root': b\n", "line 4: 'root' is there twice"),
        ("store: s\nfcan: {steps: 1, steps: 1}\n", "line 2: 'steps' is there twice"),
        ("corpus: {synonyms: {a: x, a: y}}\n", "line 1: 'a' is there twice"),
        ("fcan: &t {}\njoint:\n  <<: *t\n  <<: *t\n", "line 4: '<<' is there twice"),
        ("store: s\ncorpus:\n\tkind: scenes\n", "line 3: found character"),
        ("store: s\ncorpus\n", "could not find expected ':'"),
        ("store: s\n---\nstore: t\n", "another document"),
        ("fcan: *nothing\n", "line 1: found undefined alias"),
        ("fcan: {<<: 5}\n", "expected a mapping"),
        ("? [a]\n: b\n", "line 1: found unhashable key"),
        ("corpus: {classes: !!set {cat, dog}}\n", "line 1: could not determine a constructor"),
        ("store: " + "[" * 3000, "too deep"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    told = str(caught.value)
    assert told.startswith(f"The config {path} is not valid YAML: ") and words in told
    assert "\n" not in told


def test_a_merged_block_gives_way_to_what_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text(
        "store: x\ncorpus: {kind: scenes}\nfcan: &a {steps: 5, crop: 64}\n"
        "joint: &b {<<: *a, steps: 7}\ncues: {mcof: {train: {<<: [*b, *a], batch: 3}}}\n"
    )
    config = load_config(path)
    assert (config.joint.steps, config.joint.crop) == (7, 64)
    mcof = config.cues.mcof.train
    assert (mcof.steps, mcof.crop, mcof.batch) == (7, 64, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"store: [", ["is not valid YAML"]),
        (b"- a\n- b\n", ["must be a mapping"]),
        (b"", ["must be a mapping"]),
        (b"\xff\xfe\x00", ["Cannot read the config"]),
        (b"store: !!python/object/apply:os.getcwd []", ["is not valid YAML"]),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(word in str(caught.value) for word in [*words, str(path)])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml .*check the path"):
        load_config(tmp_path / "none.yaml")


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**40),
    rate=st.floats(1e-12, 1e6),
    scales=st.lists(st.floats(0.01, 9), min_size=1, max_size=4),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    tags=st.lists(st.text("abcxyzé:#- ", min_size=1), max_size=3),
)
def test_any_valid_config_survives_a_round_trip(
    seed: int, rate: float, scales: list[float], name: str, tags: list[str]
) -> None:
    written = tree(
        seed=seed,
        name=name,
        fcan__learning_rate=rate,
        cues__dcsp__attention__scales=scales,
        corpus__synonyms={"cat": [tag for tag in tags if tag.strip("- ")]},
    )
    config = parse_config(written)
    assert parse_config(yaml.safe_load(dump_config(config))) == config
