"""A fingerprint tells apart whatever decides a table, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.tables.fingerprint import FINGERPRINT_LENGTH, StageKey, digest, digest_lines

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text()
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
KEY = StageKey(
    "cues",
    2,
    settings={"gamma": 0.4, "attention": {"scales": [1.0, 0.5]}},
    inputs={"network": "aa", "saliency": "bb"},
    weights={"backbone": "cc"},
    seed=3,
    home="tables",
)


def shuffled(value: Any) -> Any:
    """An equal value whose mappings hold their keys in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(JSON)
def test_the_order_of_keys_does_not_matter(value: Any) -> None:
    assert digest(shuffled(value)) == digest(value)


@given(JSON, JSON)
def test_different_values_have_different_digests(first: Any, second: Any) -> None:
    # As JSON, so that True and 1, or 0.0 and -0.0, count as different.
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest(first) == digest(second)) == same


@given(JSON)
def test_digests_are_directory_names(value: Any) -> None:
    text = digest(value)
    assert len(text) == FINGERPRINT_LENGTH and set(text) <= set("0123456789abcdef")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"gamma": [number]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = StageKey("cues", 1, settings={"gamma": number}).fingerprint


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(TypeError):
        digest({"scales": {1, 2}})


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=5))
def test_lines_are_told_apart_wherever_they_are_cut(first: list[str], second: list[str]) -> None:
    assert (digest_lines(first) == digest_lines(second)) == (first == second)
    assert digest_lines(iter(first)) == digest_lines(first)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "saliency"},
        {"version": 3},
        {"settings": {"gamma": 0.3, "attention": {"scales": [1.0, 0.5]}}},
        {"settings": {"gamma": 0.4, "attention": {"scales": [0.5, 1.0]}}},
        {"settings": {"gamma": 0.4}},
        {"settings": {**KEY.settings, "crf": False}},
        {"inputs": {"network": "aa", "saliency": "cc"}},
        {"inputs": {"network": "bb", "saliency": "aa"}},
        {"inputs": {"network": "aa"}},
        {"weights": {"backbone": "dd"}},
        {"weights": {}},
        {"seed": 4},
        {"seed": 0},
        {"seed": None},
    ],
    ids=str,
)
def test_any_changed_field_changes_the_fingerprint(change: dict[str, Any]) -> None:
    changed = replace(KEY, **change)
    assert changed.fingerprint != KEY.fingerprint
    assert changed.directory != KEY.directory


@given(st.text(min_size=1), st.text(min_size=1))
def test_nothing_moves_from_one_field_to_another(name: str, value: str) -> None:
    pair = {name: value}
    keys = [
        StageKey("cues", 1, settings=pair),
        StageKey("cues", 1, inputs=pair),
        StageKey("cues", 1, weights=pair),
    ]
    assert len({key.fingerprint for key in keys}) == 3


def test_where_a_table_lies_does_not_decide_what_it_is() -> None:
    moved = replace(KEY, home=None)
    assert moved.fingerprint == KEY.fingerprint
    assert (KEY.directory, moved.directory) == (
        f"tables/{KEY.fingerprint}",
        f"cues/{KEY.fingerprint}",
    )


def test_a_key_is_stored_as_json_that_gives_its_fingerprint() -> None:
    stored = json.loads(json.dumps(KEY.as_dict()))
    assert digest(stored) == KEY.fingerprint
    assert pickle.loads(pickle.dumps(KEY)).fingerprint == KEY.fingerprint
    assert copy.deepcopy(KEY) == KEY


def test_every_process_finds_the_same_fingerprint() -> None:
    code = (
        "from dcsp.tables.fingerprint import StageKey\n"
        "print(StageKey('cues', 1, {'b': [1, 0.5], 'a': 'é'}, seed=0).fingerprint)"
    )
    prints = {
        subprocess.check_output(
            [sys.executable, "-c", code], text=True, env={"PYTHONHASHSEED": seed}
        ).strip()
        for seed in ("1", "2")
    }
    assert prints == {StageKey("cues", 1, {"a": "é", "b": [1, 0.5]}, seed=0).fingerprint}
