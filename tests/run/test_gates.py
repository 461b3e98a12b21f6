"""Gates: at the limit a run passes, beyond it a person is told by how much."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.config import GateSettings
from dcsp.run.gates import Candidate, Gate, check_gates, figures_of

METRICS: dict[str, Any] = {
    "val": {"miou": 10.0, "miou_published": 61.25},
    "train": {"miou": 11.0, "miou_published": 70.0},
    "rows": {
        "corpus": {"ok": 8, "skipped": 0, "error": 0},
        "saliency": {"ok": 7, "skipped": 0, "error": 1},
        "cues": {"ok": 4, "skipped": 1, "error": 1},
    },
    "trust": {"expected_miou": 55.5, "tag_consistency": 0.9},
    "against": {"run": "old", "changed_share": 0.34},
}
OLD = {"val": {"miou_published": 63.5}, "train": {"miou_published": 60.0}}


def candidate(metrics: dict[str, Any] = METRICS, published: str | None = "old") -> Candidate:
    return Candidate("new", metrics, 0.125, published, OLD if published else None)


def only(gate: str, limit: float, run: Candidate) -> Gate:
    (found,) = check_gates(GateSettings(**{gate: limit}), run)
    assert (found.name, found.limit) == (gate, limit)
    return found


def test_figures_are_those_of_what_is_published() -> None:
    assert figures_of(candidate()) == {
        "miou": 61.25,
        "expected_miou": 55.5,
        "tag_consistency": 0.9,
        "rejected_share": 0.125,
        "failed_share": 1 / 6,
        "changed_share": 0.34,
        "miou_drop": 2.25,
    }


def test_without_masks_of_held_out_images_those_of_training_count() -> None:
    learned = METRICS | {"val": {"miou": None, "miou_published": None}}
    assert figures_of(candidate(learned))["miou"] == 70.0
    assert figures_of(candidate(learned))["miou_drop"] == -10.0, "of one and the same split"


def test_no_limits_are_no_gates() -> None:
    assert check_gates(GateSettings(), candidate()) == []


@pytest.mark.parametrize(
    ("gate", "limit", "told"),
    [
        ("min_miou", 61.3, "miou is 61.25, less than the 61.30 required (gates.min_miou)"),
        ("min_expected_miou", 60, "expected_miou is 55.50, less than the 60.00 required"),
        ("min_tag_consistency", 0.95, "tag_consistency is 0.90, less than the 0.95 required"),
        ("max_rejected_share", 0.1249, "rejected_share is 0.1250, more than the 0.1249 allowed"),
        ("max_failed_share", 0.1, "failed_share is 0.17 (of cues), more than the 0.10 allowed"),
        (
            "max_changed_share",
            0.2,
            "changed_share is 0.34, more than the 0.20 allowed (gates.max_changed_share)",
        ),
        ("max_miou_drop", 2, "miou_drop is 2.25, more than the 2.00 allowed (gates.max_miou_drop)"),
    ],
)
def test_what_is_beyond_a_limit_says_by_how_much(gate: str, limit: float, told: str) -> None:
    found = only(gate, limit, candidate())
    assert not found.passed and found.sentence.startswith(told)
    value = found.value
    assert value is not None and only(gate, value, candidate()).passed, "at the limit it passes"


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("min_miou", "no image that is labelled has a mask"),
        ("min_expected_miou", "this run has no labels to estimate it from"),
        ("min_tag_consistency", "no image that is labelled has tags"),
        ("max_failed_share", "this run does not count its rows"),
        ("max_changed_share", "could not be compared with the published old"),
        ("max_miou_drop", "no image that is labelled has a mask"),
    ],
)
def test_a_figure_that_is_not_known_fails_and_says_what_makes_it_known(
    gate: str, told: str
) -> None:
    bare: dict[str, Any] = {"run_id": "new", "trust": None}
    found = only(gate, 0.5, candidate(bare))
    assert not found.passed and found.value is None and told in found.sentence
    assert "is not known" in found.sentence and f"remove gates.{gate}" in found.sentence


def test_a_comparison_with_another_run_than_the_published_is_none() -> None:
    stale = METRICS | {"against": {"run": "older", "changed_share": 0.0}}
    found = only("max_changed_share", 0.5, candidate(stale))
    assert not found.passed
    assert "could not be compared with the published old" in found.sentence
    nothing = METRICS | {"against": {"run": "old", "changed_share": None}}
    assert "no image in common" in only("max_changed_share", 0.5, candidate(nothing)).sentence
    unmeasured = Candidate("new", METRICS, 0.0, "old", {"val": {}})
    assert "old was not measured" in only("max_miou_drop", 1, unmeasured).sentence


def test_the_first_run_of_a_store_compares_with_nothing_and_passes() -> None:
    first = candidate(METRICS | {"against": None}, published=None)
    for gate in ("max_changed_share", "max_miou_drop"):
        assert only(gate, 0.0, first).passed


@given(value=st.floats(0, 100), limit=st.floats(0, 100), is_least=st.booleans())
def test_a_limit_is_kept_to_or_the_two_numbers_read_differently(
    value: float, limit: float, is_least: bool
) -> None:
    gate = "min_miou" if is_least else "max_miou_drop"
    metrics = {"val": {"miou_published": value if is_least else 100 - value}}
    run = Candidate("new", metrics, 0.0, "old", {"val": {"miou_published": 100.0}})
    found = only(gate, limit, run)
    assert found.value is not None
    assert found.passed == (found.value >= limit if is_least else found.value <= limit)
    if not found.passed:
        told, wanted = re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", found.sentence)
        assert float(told) != float(wanted)
        assert (float(told) < float(wanted)) == is_least
