"""Grids: what the command line means, which runs it makes, and what is refused."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcsp.comparison.grid import Axis, combinations, expand, parse_axis, short_names
from dcsp.errors import ConfigError

VALUES = st.recursive(
    st.one_of(  # a text that begins with a letter is no number, which 5 and "5" both are
        st.integers(),
        st.booleans(),
        st.text(st.characters(codec="utf-8"), max_size=8).map("x{}".format),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=6,
)


def flow(value: Any) -> str:
    """A value as YAML in one line, as on a command line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=False)
    return text.removesuffix("\n").removesuffix("\n...")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    tree = {"store": "./store", "name": "base", "seed": 9, "corpus": {"kind": "scenes"}}
    path.write_text(yaml.safe_dump(tree))
    return path


@given(st.lists(VALUES, min_size=1, max_size=4, unique_by=repr))
def test_commas_inside_a_value_do_not_split_it(values: list[Any]) -> None:
    axis = parse_axis("predict.scales=" + ",".join(map(flow, values)))
    assert [yaml.safe_load(text) for text in axis.values] == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1", ("1",)),
        ("a.b=dcsp, affinity", ("dcsp", "affinity")),
        ("a.b=[1.0],[1.0,0.75]", ("[1.0]", "[1.0,0.75]")),
        ("a.b={x: [1, 2], y: 3},null", ("{x: [1, 2], y: 3}", "null")),
        ("a.b='x,y',\"[\"", ("'x,y'", '"["')),
        ("a.b=it's,b's", ("it's", "b's")),
        ("a.b=x=1,y=2", ("x=1", "y=2")),
    ],
)
def test_values_are_kept_as_they_are_written(text: str, values: tuple[str, ...]) -> None:
    assert parse_axis(text) == Axis("a.b", values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fcan.steps", "must look like cues.dcsp.gamma_low=0.2,0.4"),
        ("=1,2", "must look like"),
        ("fcan..steps=1", "must look like"),
        ("fcan.steps=", "has an empty value"),
        ("fcan.steps=1,,2", "has an empty value"),
        ("predict.scales=[1.0,[1.0]", "lacks a closing ]"),
        ("corpus.root='a,b", "lacks a closing '"),
        ("cues.dcsp.gamma_low=0.2,0.4,0.20", "holds 0.20 twice"),
        ("fcan.steps=[1]2,3", "cannot be read: it must end in ]"),
        ("seed=1,2", "--seeds N gives the seeds"),
        ("store=a,b", "share one store"),
        ("name=a,b", "a run's name tells its settings"),
        ("cluster.actors=1,2", "does not decide any result"),
    ],
)
def test_what_is_no_grid_is_told(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_axis(text)


def test_true_is_not_one() -> None:
    assert parse_axis("a.b=1,true").values == ("1", "true")


def test_combinations_are_the_product_of_the_axes() -> None:
    axes = [Axis("cues.method", ("a", "b", "c")), Axis("joint.steps", ("1", "2"))]
    found = [tuple(value for _, value in one.settings) for one in combinations(axes)]
    assert found == list(product("abc", "12"))
    assert combinations(axes)[1].label == "method=a, steps=2"
    with pytest.raises(ConfigError, match=r"has cues\.method twice"):
        combinations([axes[0], axes[0]])


KEYS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)


@given(st.lists(KEYS, min_size=1, max_size=4, unique=True))
def test_short_names_tell_keys_apart(keys: list[str]) -> None:
    names = short_names(keys)
    assert len(set(names)) == len(keys)
    assert all(k == n or k.endswith(f".{n}") for k, n in zip(keys, names, strict=True))


def test_runs_are_every_combination_with_every_seed(config: Path) -> None:
    axes = [Axis("cues.dcsp.gamma_low", ("0.1", "0.4")), Axis("predict.scales", ("[1.0, 0.5]",))]
    runs = expand(config, ["fcan.steps=7"], axes, seeds=2)
    assert [(run.seed, run.config.cues.dcsp.gamma_low) for run in runs] == [
        (0, 0.1), (0, 0.4), (1, 0.1), (1, 0.4),
    ]  # fmt: skip
    assert all(run.config.seed == run.seed and run.config.fcan.steps == 7 for run in runs)
    assert all(run.config.predict.scales == (1.0, 0.5) for run in runs)
    assert runs[0].config.name == "base-gamma_low-0.1-scales-1.0-0.5-seed-0"
    assert {run.comparison for run in runs} == {"base"}


def test_long_names_are_cut_and_stay_different(config: Path) -> None:
    paths = tuple(f"{'long/' * 30}{number}" for number in range(3))
    runs = expand(config, [], [Axis("network.weights", paths)], seeds=1)
    names = [run.config.name for run in runs]
    assert len(set(names)) == 3 and {len(name) for name in names} == {100}
    pattern = r"[A-Za-z0-9][A-Za-z0-9._-]*"
    assert all(re.fullmatch(pattern, name) for name in names)


def test_one_bad_combination_refuses_all_and_is_named(config: Path) -> None:
    axes = [Axis("cues.dcsp.gamma_low", ("0.2", "0.6")), Axis("fcan.steps", ("3", "none"))]
    expected = r"The combination gamma_low=0\.2, steps=none is refused: .*fcan\.steps='none'"
    with pytest.raises(ConfigError, match=expected + r".*\(Of the combinations 3 are refused\.\)"):
        expand(config, [], axes, seeds=1)
    with pytest.raises(ConfigError, match=r"unknown setting 'fcan\.stpes', did you mean"):
        expand(config, [], [Axis("fcan.stpes", ("1",))], seeds=1)


def test_a_bad_file_seed_or_override_blames_no_combination(config: Path) -> None:
    axes = [Axis("fcan.steps", ("3",))]
    with pytest.raises(ConfigError, match=r"^Cannot read the config"):
        expand(config.with_name("no.yaml"), [], axes, seeds=1)
    with pytest.raises(ConfigError, match=r"^The override 'fcan' must look like"):
        expand(config, ["fcan"], axes, seeds=1)
    with pytest.raises(ConfigError, match=r"^The override 'seed=3' has no place here"):
        expand(config, ["seed=3"], axes, seeds=1)
    with pytest.raises(ConfigError, match="--seeds is 0: at least one"):
        expand(config, [], axes, seeds=0)
