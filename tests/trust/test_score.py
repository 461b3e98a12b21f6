"""From signals to scores: monotone, explained, and shipped with what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dcsp.trust.score import NO_PIXELS, REASONS, UNTAGGED, TrustModel, shipped_model
from dcsp.trust.signals import SIGNALS, Signals

VALUES = arrays(np.float64, (1, len(SIGNALS)), elements=st.floats(0, 1) | st.just(np.nan))


def model(**weights: float) -> TrustModel:
    weights = dict.fromkeys(SIGNALS, 0.0) | weights
    return TrustModel(weights, dict.fromkeys(SIGNALS, 0.5), 0.0, 0.7, 0.5, {})


def signals(values: NDArray[np.float64], pixels: int = 100) -> Signals:
    return Signals((1,), (pixels,), values)


@given(VALUES, st.sampled_from(list(SIGNALS)), st.floats(0, 1))
def test_a_signal_that_rises_never_lowers_the_score(
    values: NDArray[np.float64], name: str, higher: float
) -> None:
    column = list(SIGNALS).index(name)
    if np.isnan(values[0, column]):
        values[0, column] = 0.0
    raised = values.copy()
    raised[0, column] = max(higher, values[0, column])
    one, other = (shipped_model().classes(signals(v))[0].score for v in (values, raised))
    assert 0 <= one <= other <= 1


def test_what_is_unknown_counts_as_the_mean() -> None:
    values = np.full((1, len(SIGNALS)), np.nan)
    known = np.full((1, len(SIGNALS)), 0.5)
    rated = model(cue=3.0, alone=1.0)
    assert rated.classes(signals(values)) == rated.classes(signals(known))
    assert rated.classes(signals(known))[0].score == 0.5


def test_a_score_is_the_logistic_function_of_the_weighted_sum() -> None:
    values = np.full((1, len(SIGNALS)), 0.5)
    values[0, list(SIGNALS).index("cue")] = 0.1
    (found,) = replace(model(cue=3.0), intercept=0.2).classes(signals(values))
    assert found.score == pytest.approx(1 / (1 + np.exp(-(0.2 + 3.0 * (0.1 - 0.5)))))


def test_reasons_are_the_signals_that_take_most_the_weightiest_first() -> None:
    values = np.full((1, len(SIGNALS)), 0.5)
    for name in ("cue", "alone", "decided"):
        values[0, list(SIGNALS).index(name)] = 0.0
    (found,) = model(cue=1.0, alone=4.0, decided=0.5).classes(signals(values))
    assert found.reasons == ("alone", "cue", "decided")
    assert set(found.reasons) <= set(REASONS)


def test_a_tag_without_pixels_is_not_trusted_at_all() -> None:
    values = np.full((1, len(SIGNALS)), np.nan)
    (found,) = model(cue=1.0).classes(signals(values, pixels=0))
    assert (found.score, found.reasons) == (0.0, (NO_PIXELS,))


def test_a_class_that_is_none_of_the_tags_has_a_reason_more_and_the_same_score() -> None:
    values = np.full((1, len(SIGNALS)), 0.5)
    rated = model(cue=1.0)
    plain, told = (rated.classes(signals(values), tags)[0] for tags in ((), (2,)))
    assert (plain.reasons, told.reasons) == ((), (UNTAGGED,))
    assert plain.score == told.score and rated.classes(signals(values), (1,)) == [plain]


def test_an_image_has_the_mean_of_its_classes() -> None:
    rated = model(cue=2.0)
    values = np.full((2, len(SIGNALS)), 0.5)
    values[1, list(SIGNALS).index("cue")] = 1.0
    found = rated.classes(Signals((1, 2), (5, 5), values))
    assert rated.score(found) == pytest.approx((0.5 + 1 / (1 + np.exp(-1.0))) / 2)
    assert rated.score([]) == 0.7


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_can_become_a_reason_by_the_shipped_weights(name: str) -> None:
    values = np.array([[shipped_model().means[signal] for signal in SIGNALS]])
    assert shipped_model().classes(signals(values))[0].reasons == ()
    values[0, list(SIGNALS).index(name)] = 0.0
    assert shipped_model().classes(signals(values))[0].reasons == (name,)


def test_the_shipped_model_knows_every_signal_and_what_it_was_fitted_on() -> None:
    shipped = shipped_model()
    assert set(shipped.weights) == set(shipped.means) == set(SIGNALS)
    assert min(shipped.weights.values()) >= 0
    assert shipped.fitted, "python -m dcsp.evaluation.trust_fit says on what"
    assert "fitted" not in shipped.decides
