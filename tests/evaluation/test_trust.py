"""What scores say of a whole run: expectations against the truth, and how well they tell."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torchmetrics.functional.classification import binary_auroc

from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.trust import (
    BINS,
    TrustCounter,
    TrustFigures,
    TrustSums,
    _levels,
    auc,
    class_iou,
    image_iou,
    spearman,
    trust_metrics,
)
from dcsp.labels import MAX_CLASSES

NAMES = ("cat", "dog")
SIDE = 40


def pictures(images: int, seed: int = 0) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Label and truth: boxes, of which the label has some columns more or fewer."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(images):
        truth = np.zeros((SIDE, SIDE), np.uint8)
        label = truth.copy()
        class_id, width = 1 + number % 2, 16
        truth[10:30, 10 : 10 + width] = class_id
        label[10:30, 10 : 10 + width + int(rng.integers(-10, 11))] = class_id
        found.append((label, truth))
    return found


def row(label: NDArray[np.uint8], score: float, tags: list[int] | None = None) -> dict[str, Any]:
    ids = [int(id_) for id_ in np.unique(label) if id_]
    ids = sorted({*ids, *(tags or [])})
    classes = [
        {"class": id_, "pixels": int((label == id_).sum()), "score": score, "reasons": ["alone"]}
        for id_ in ids
    ]
    return {
        "height": SIDE, "width": SIDE, "tags": ids if tags is None else tags, "score": score,
        "classes": classes, "status": "ok",
    }  # fmt: skip


def counted(*rows: dict[str, Any]) -> TrustSums:
    return TrustCounter(rows, len(NAMES)).sums


def summed(
    found: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], masks: bool, bias: float = 0.0
) -> TrustSums:
    """Sums of images whose scores are their true IoU, or off by so much."""
    matrices = [ConfusionMatrix.of(truth, label, len(NAMES)) for label, truth in found]
    scores = [float(np.clip(image_iou(class_iou(m)) + bias, 0, 1)) for m in matrices]
    rows = [row(label, score) for (label, _), score in zip(found, scores, strict=True)]
    counter = TrustCounter(rows, len(NAMES))
    for number, matrix in enumerate(matrices if masks else ()):
        counter.compare(number, matrix)
    return counter.sums


def told(sums: TrustSums) -> TrustFigures:
    found = trust_metrics({"train": sums}, NAMES, missed=1.0)
    assert found is not None
    return found


def test_true_scores_make_the_true_miou_expected() -> None:
    found = pictures(200)
    matrix = sum((ConfusionMatrix.of(t, p, 2) for p, t in found), ConfusionMatrix.empty(2))
    expected = told(summed(found, masks=False))
    assert expected["expected_miou"] == pytest.approx(matrix.mean_iou(), abs=2.0)
    assert expected["calibration"] is None
    for name, iou in zip(NAMES, matrix.iou()[1:], strict=True):
        assert expected["per_class"][name]["expected_iou"] == pytest.approx(iou, abs=3.0)


def test_masks_correct_scores_that_are_off() -> None:
    found = pictures(200)
    matrix = sum((ConfusionMatrix.of(t, p, 2) for p, t in found), ConfusionMatrix.empty(2))
    blind = told(summed(found, masks=False, bias=0.2))
    seeing = told(summed(found, masks=True, bias=0.2))
    assert blind["expected_miou"] > matrix.mean_iou() + 5
    assert seeing["expected_miou"] == pytest.approx(matrix.mean_iou(), abs=2.5)
    assert seeing["calibration"] is not None
    assert seeing["calibration"]["images"] == 200
    assert seeing["calibration"]["spearman"] == pytest.approx(1.0, abs=0.05)  # clipped ones tie
    groups = seeing["calibration"]["reliability"]
    assert [g["images"] for g in groups] == [20] * 10
    assert all(one["score"] <= other["score"] for one, other in pairwise(groups))


def test_tags_without_pixels_lower_what_is_expected() -> None:
    label = pictures(1)[0][0]
    whole = counted(*[row(label, 0.9)] * 10)
    lacking = [row(label, 0.9, [1, 2] if number < 5 else [1]) for number in range(10)]
    missing = counted(*lacking, row((label * 2).astype(np.uint8), 0.9))
    found = told(missing)
    assert found["tag_consistency"] == pytest.approx(6 / 11)
    assert found["per_class"]["dog"]["without_pixels"] == 5
    assert found["expected_miou"] < told(whole)["expected_miou"] - 20
    assert found["reasons"]["alone"] == 16


def test_labels_of_no_class_are_not_called_perfect() -> None:
    found = told(counted(*[row(np.zeros((SIDE, SIDE), np.uint8), 0.5, tags=[])] * 100))
    assert found["expected_miou"] is None and found["tag_consistency"] is None
    assert {c["expected_iou"] for c in found["per_class"].values()} == {None}


def test_distractors_are_no_tags_that_labels_could_be_consistent_with() -> None:
    label = pictures(1)[0][0]
    sums = counted(*({**row(label, 0.5), "tags": tags} for tags in ([3], [1, 3])))
    assert (sums.tagged, sums.consistent) == (1, 1)


def test_equal_scores_stand_for_one_iou_and_others_for_themselves() -> None:
    pairs = np.array([(0.5, iou) for iou in np.linspace(0, 0.58, 60)])
    centres = (np.arange(BINS) + 0.5) / BINS
    expected = [*np.minimum(centres[:25], 0.29), 0.29, *centres[26:], 1.0]
    assert _levels(replace(counted(), of_classes=pairs)) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=50, max_size=80))
def test_a_higher_score_never_stands_for_less(pairs: list[tuple[float, float]]) -> None:
    levels = _levels(replace(counted(), of_classes=np.array(pairs)))
    assert (np.diff(levels) >= -1e-12).all() and levels.min() >= 0 and levels.max() == 1


def corrected(told: dict[str, Any]) -> dict[str, Any]:
    sure = [c | {"score": 1.0} for c in told["classes"]]
    made = {"score": told["score"], "classes": told["classes"]}
    return told | {"score": 1.0, "classes": sure, "uncorrected": made}


def of_worst_corrected(others: int, score: float, worst: float) -> tuple[TrustSums, TrustSums]:
    """Before and after 60 images, whose score ``worst`` was right, were corrected."""
    label, truth = np.zeros((2, SIDE, SIDE), np.uint8)
    truth[10:30, 10:30] = label[10:30, 10 : 10 + round(20 * worst)] = 1
    whole, rows = [row(truth, score)] * others, [row(label, worst)] * 60
    counter = TrustCounter(
        [*whole, *({**corrected(row(truth, 1.0)), "uncorrected": told} for told in rows)], 2
    )
    for number in range(others, others + 60):
        counter.compare_uncorrected(number, ConfusionMatrix.of(truth, label, 2))
    return counted(*whole, *rows), counter.sums


def test_corrections_of_what_is_trusted_least_say_nothing_of_the_others() -> None:
    before, after = map(told, of_worst_corrected(5000, 0.85, 0.3))
    assert before["calibration"] is None and after["calibration"] is not None
    assert before["per_class"]["cat"]["expected_iou"] == pytest.approx(85, abs=1)
    assert before["expected_miou"] < after["expected_miou"] < before["expected_miou"] + 1


def test_what_is_corrected_is_expected_to_be_right() -> None:
    sums = of_worst_corrected(0, 1.0, 0.3)[1]
    assert told(sums)["per_class"]["cat"]["expected_iou"] == 100
    pairs = np.array([(1.0, 0.3)] * 60)  # scores of 1 that nobody drew are not
    whole = counted(row(pictures(1)[0][0], 1.0))
    found = told(replace(whole, of_classes=pairs, of_images=pairs))
    assert found["per_class"]["cat"]["expected_iou"] == pytest.approx(30)


def test_figures_are_plain_json_and_parts_add_up() -> None:
    found = pictures(120)
    halves = summed(found[:60], masks=True) + summed(found[60:], masks=True)
    assert told(halves) == told(summed(found, masks=True))
    assert json.loads(json.dumps(told(halves), allow_nan=False)) == told(halves)
    assert halves.scores.shape == (BINS,) and halves.scores.sum() == 120


def test_without_scores_there_is_nothing_to_tell() -> None:
    failed = {**row(pictures(1)[0][0], 0.5), "status": "error", "score": None, "classes": None}
    assert trust_metrics({"train": counted(failed)}, NAMES, missed=1.0) is None
    assert trust_metrics({}, NAMES, missed=1.0) is None


def test_what_is_missed_counts_as_large_as_it_was_where_weights_were_fitted() -> None:
    rows = [row(pictures(1)[0][0], 0.9, [1, 2])] * 4 + [row(pictures(2)[1][0], 0.9)]
    large, small = (trust_metrics({"val": counted(*rows)}, NAMES, m) for m in (1.0, 0.1))
    assert large and small
    assert small["expected_miou"] > large["expected_miou"]  # type: ignore[operator]


def test_what_a_label_leaves_out_is_wrong_and_what_the_truth_leaves_out_does_not_count() -> None:
    truth = np.array([[1, 1, 1, 1, 255, 255]], np.uint8)
    label = np.array([[1, 1, 255, 0, 1, 2]], np.uint8)
    assert class_iou(ConfusionMatrix.of(truth, label, 2)) == {1: 0.5}
    swapped = ConfusionMatrix.of(np.array([[0, 1]], np.uint8), np.array([[2, 0]], np.uint8), 2)
    assert class_iou(swapped) == {1: 0, 2: 0} and image_iou({1: 0, 2: 0}) == 0
    empty = np.zeros((2, 2), np.uint8)
    assert image_iou(class_iou(ConfusionMatrix.of(empty, empty, MAX_CLASSES))) == 1


PAIRS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.9]), st.floats(0, 1, width=32)), min_size=2
)


@given(PAIRS)
def test_spearman_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    score, iou = np.array(pairs).T
    found = spearman(score, iou)
    if found is None:
        assert len(set(score)) == 1 or len(set(iou)) == 1
    else:
        assert found == pytest.approx(spearmanr(score, iou).statistic, abs=1e-9)


@given(PAIRS)
def test_area_under_the_curve_is_that_of_torchmetrics(pairs: list[tuple[float, float]]) -> None:
    score, iou = np.array(pairs).T
    found = auc(score, iou < 0.5)
    if found is None:
        assert (iou < 0.5).all() or not (iou < 0.5).any()
    else:
        expected = binary_auroc(torch.tensor(score), torch.tensor((iou < 0.5).astype(np.int64)))
        assert found == pytest.approx(float(expected), abs=1e-6)


def test_corrections_are_compared_with_what_would_have_been_said_without_them() -> None:
    counters, pairs = [], pictures(80)
    for has_corrections in (False, True):
        rows = [row(label, 0.9 if number % 2 else 0.2) for number, (label, _) in enumerate(pairs)]
        made = [dict(told) for told in rows]
        if has_corrections:
            made = [*map(corrected, made)]
        counter = TrustCounter(made, len(NAMES))
        compare = counter.compare_uncorrected if has_corrections else counter.compare
        for number, (label, truth) in enumerate(pairs):
            compare(number, ConfusionMatrix.of(truth, label, len(NAMES)))
        counters.append(counter.sums)
    by_masks, by_corrections = counters
    assert len(by_masks.of_classes) > 50
    assert (by_corrections.of_images == by_masks.of_images).all()
    assert (by_corrections.of_classes == by_masks.of_classes).all()
    assert by_corrections.scores[-1] == 80  # and what is published is trusted
