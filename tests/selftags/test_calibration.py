"""Thresholds are those of a slow reference, and what is said of them is exact."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dcsp.selftags.calibration import (
    BINS,
    ClassThreshold,
    ScoreCounts,
    Thresholds,
    bins_of,
    find_threshold,
    wilson_lower,
)

any_score = st.floats(0, 1, width=32)
coarse_score = st.integers(0, BINS).map(lambda level: level / BINS)
images = st.lists(st.tuples(any_score, st.booleans()), min_size=1, max_size=60)
coarse_images = st.lists(st.tuples(coarse_score, st.booleans()), min_size=1, max_size=60)
stated = st.one_of(st.sampled_from([0.25, 0.5, 0.9, 1.0]), st.floats(0.01, 1.0))


def found(pairs: list[tuple[float, bool]], precision: float, support: int) -> ClassThreshold:
    counts = ScoreCounts.of(
        np.array([[score] for score, _ in pairs], np.float32),
        np.array([[tagged] for _, tagged in pairs]),
    )
    return find_threshold(counts.present[0], counts.absent[0], precision, support)


def reference(pairs: list[tuple[float, bool]], precision: float, support: int) -> float | None:
    """The lowest score of an image at which enough images are right; every one is tried."""
    for level in sorted(score for score, _ in pairs):
        reached = [tagged for score, tagged in pairs if score >= level]
        if len(reached) >= support and sum(reached) / len(reached) >= precision:
            return level
    return None


@given(coarse_images, stated, st.integers(1, 8))
def test_scores_on_edges_of_bins_have_the_threshold_of_the_reference(
    pairs: list[tuple[float, bool]], precision: float, support: int
) -> None:
    pairs = [(min(score, (BINS - 1) / BINS), tagged) for score, tagged in pairs]
    assert found(pairs, precision, support).threshold == reference(pairs, precision, support)


@given(images, stated, st.integers(1, 8))
def test_what_is_said_of_a_threshold_holds_for_the_scores_themselves(
    pairs: list[tuple[float, bool]], precision: float, support: int
) -> None:
    known = found(pairs, precision, support)
    assert known.tagged == sum(tagged for _, tagged in pairs)
    if known.threshold is None:
        assert known.reached == 0 and known.precision is None
        return
    level = np.float32(known.threshold)
    reached = [tagged for score, tagged in pairs if np.float32(score) >= level]
    assert known.reached == len(reached) >= support
    assert known.precision == sum(reached) / len(reached) >= precision
    assert known.recall == sum(reached) / known.tagged
    assert known.lower is not None and known.lower <= known.precision
    # No lower edge of a bin with an image in it would do.
    edges = [(int(bins_of(np.float32([score]))[0]) / BINS, tagged) for score, tagged in pairs]
    assert known.threshold == reference(edges, precision, support)


@given(images, stated, st.integers(1, 8))
def test_bins_cost_no_more_than_their_width(
    pairs: list[tuple[float, bool]], precision: float, support: int
) -> None:
    """Where no two images share a bin, it is the reference's threshold, rounded down."""
    bins = [int(bins_of(np.float32([score]))[0]) for score, _ in pairs]
    if len(set(bins)) < len(bins):
        return
    known, exact = found(pairs, precision, support).threshold, reference(pairs, precision, support)
    assert (known is None) == (exact is None)
    if known is not None and exact is not None:
        assert 0 <= np.float32(exact) - known <= 1 / BINS


@given(coarse_images, st.integers(0, 60))
def test_counts_add_up_in_any_pieces(pairs: list[tuple[float, bool]], cut: int) -> None:
    scores = np.array([[score, 1 - score] for score, _ in pairs], np.float32)
    tagged = np.array([[tag, not tag] for _, tag in pairs])
    whole = ScoreCounts.of(scores, tagged)
    pieces = ScoreCounts.of(scores[:cut], tagged[:cut]) + ScoreCounts.of(scores[cut:], tagged[cut:])
    for ours, theirs in ((whole, pieces), (ScoreCounts.empty(2) + whole, whole)):
        np.testing.assert_array_equal(ours.present, theirs.present)
        np.testing.assert_array_equal(ours.absent, theirs.absent)
        assert ours.images == theirs.images == len(pairs)


def test_a_share_that_is_just_reached_counts() -> None:
    nine_of_ten = [(0.5, True)] * 9 + [(0.5, False)]
    assert found(nine_of_ten, 0.9, 10).threshold == 0.5
    assert found(nine_of_ten, 0.9, 11).threshold is None
    assert found(nine_of_ten, 0.91, 1).threshold is None


def test_one_image_that_is_right_is_not_enough() -> None:
    pairs = [(0.99, True)] + [(0.3, False)] * 50
    assert found(pairs, 0.9, 20).threshold is None and found(pairs, 0.9, 1).threshold is not None


def test_scores_that_are_none_are_refused() -> None:
    for score in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="within 0 and 1"):
            ScoreCounts.of(np.array([[score]], np.float32), np.array([[True]]))


@pytest.mark.parametrize(("hits", "trials"), [(1, 1), (9, 10), (90, 100), (0, 5), (20, 20)])
def test_the_lower_bound_is_wilsons(hits: int, trials: int) -> None:
    interval = stats.binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert wilson_lower(hits, trials) == pytest.approx(interval.low, abs=1e-4)


def thresholds(split: str = "val") -> Thresholds:
    scores = np.float32([[0.9, 0.2], [0.8, 0.1], [0.1, 0.3]])
    tagged = np.array([[True, False], [True, False], [False, False]])
    return Thresholds.find(ScoreCounts.of(scores, tagged), ("cat", "dog"), split, 0.9, 2)


def test_self_tags_are_the_classes_that_reach_their_threshold() -> None:
    found = thresholds()
    assert found.self_tags(np.float32([0.8, 1.0])) == [1]
    assert found.self_tags(np.float32([0.79, 1.0])) == []
    levels = found.levels
    assert levels[0] == np.float32(math.floor(np.float32(0.8) * BINS) / BINS)
    assert math.isinf(levels[1])


def test_thresholds_are_written_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    known = thresholds()
    told = json.loads(json.dumps(known.as_dict(), allow_nan=False))
    assert Thresholds.from_dict(told) == known and told["held_out"] is True
    assert thresholds("train").as_dict()["held_out"] is False


def test_what_a_job_says_names_split_and_classes_without_a_threshold() -> None:
    assert thresholds().told == (
        "thresholds for 1 of 2 classes at a precision of 0.9, calibrated on 3 tagged held-out "
        "images (split val); none for dog"
    )
    assert "images that the network learned from (split train)" in thresholds("train").told
    nothing = Thresholds.find(ScoreCounts.empty(2), ("cat", "dog"), "val", 0.9, 2)
    assert "no tagged image of the split 'val'" in nothing.told
    assert "selftags.calibrate" in nothing.told and nothing.self_tags(np.float32([1, 1])) == []
