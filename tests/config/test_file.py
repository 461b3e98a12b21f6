"""Config files, overrides and paths: text means what its setting says, and faults have a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.config.file import dump_config, load_config, parse_config
from dcsp.errors import ConfigError
from tests.config.test_config import BASE, refusal, tree


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return path


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
