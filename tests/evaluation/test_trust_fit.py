"""Weights that are fitted: they find the signals that tell, and are judged on what is new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcsp.evaluation.trust_fit import Example, crossed, fit, judged, scored
from dcsp.trust.signals import SIGNALS, Signals

CUE, ALONE = list(SIGNALS).index("cue"), list(SIGNALS).index("alone")


def images(count: int, seed: int, known: float = 1.0) -> list[Example]:
    """Images of one or two classes whose IoU rises with one signal and falls with another."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        classes = tuple(range(1, int(rng.integers(2, 4))))
        values = rng.random((len(classes), len(SIGNALS)))
        sums = 4 * (values[:, CUE] - 0.5) - 2 * (values[:, ALONE] - 0.5)
        iou = 1 / (1 + np.exp(-sums))
        values[rng.random(values.shape) > known] = np.nan
        signals = Signals(classes, (9,) * len(classes), values)
        found.append(Example("train", signals, iou, float(iou.mean()), np.full(len(iou), 0.2)))
    return found


def test_weights_are_those_that_made_the_examples_and_never_negative() -> None:
    model = fit([images(400, 0)])
    assert model.weights["cue"] == pytest.approx(4, rel=0.25)
    others = {name: w for name, w in model.weights.items() if name != "cue"}
    assert model.weights["alone"] == 0, "what falls with a signal cannot be said by its weight"
    assert max(others.values()) < 0.6


def test_scores_tell_of_images_that_were_not_seen() -> None:
    seen, other = images(300, 0), images(300, 1)
    by_others = judged(scored(fit([seen]), other), other)
    assert by_others["spearman"] is not None and by_others["spearman"] > 0.75
    assert by_others["auc"] is not None and by_others["auc"] > 0.85
    assert by_others["gain"] is not None and by_others["gain"] > 3
    assert abs(by_others["off"] or 0) < 3
    within = judged(crossed(seen), seen)
    assert within["spearman"] is not None and within["spearman"] > 0.75


def test_cross_validation_of_noise_finds_nothing() -> None:
    rng = np.random.default_rng(2)
    noise = [
        replace(e, iou=rng.random(len(e.iou)), image_iou=float(rng.random()))
        for e in images(300, 2)
    ]
    found = judged(crossed(noise), noise)["spearman"]
    assert found is not None and abs(found) < 0.2


def test_signals_that_are_unknown_of_some_images_are_no_obstacle() -> None:
    model = fit([images(400, 3, known=0.6)])
    assert model.weights["cue"] > 1


def test_each_corpus_counts_as_much_as_another() -> None:
    one, other = images(40, 4), images(400, 5)
    flat = [replace(e, iou=np.full(len(e.iou), 0.2), image_iou=0.2) for e in other]
    alone = fit([flat]).intercept
    both = fit([one, flat])
    assert 1 / (1 + np.exp(-both.intercept)) == pytest.approx(0.35, abs=0.06)
    assert alone < both.intercept


def test_what_is_missed_is_as_large_as_it_was_and_images_without_classes_have_a_mean() -> None:
    missed = Signals((1,), (0,), np.full((1, len(SIGNALS)), np.nan))
    empty, none = Signals((), (), np.empty((0, len(SIGNALS)))), np.empty(0)
    extra = [
        Example("train", missed, np.array([0.0]), 0.0, np.array([0.1])),
        Example("train", missed, np.array([np.nan]), 1.0, np.array([0.0])),  # the mask has none
        Example("train", empty, none, 1.0, none),
        Example("train", empty, none, 0.0, none),
    ]
    model = fit([[*images(50, 6), *extra]])
    assert model.nothing == 0.5
    assert model.missed == pytest.approx(0.05 / 0.2)
