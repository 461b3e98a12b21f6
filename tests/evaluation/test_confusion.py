"""Confusion matrices, against torchmetrics and against hand-made counts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from dcsp.evaluation.confusion import ConfusionMatrix, confusion

CLASSES = 5
Labels = NDArray[np.uint8]


def random_labels(rng: np.random.Generator, ignored_share: float) -> Labels:
    labels = rng.integers(0, CLASSES + 1, size=(31, 47), dtype=np.uint8)
    labels[rng.random(labels.shape) < ignored_share] = 255
    return labels


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = st.sampled_from([0.0, 0.2, 1.0])
    return random_labels(rng, draw(shares)), random_labels(rng, draw(shares))


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = random_labels(rng, 0.1), random_labels(rng, 0.0)
    matrix = ConfusionMatrix.of(truth, prediction, CLASSES)
    pair = torch.from_numpy(prediction).long(), torch.from_numpy(truth).long()
    options: dict[str, Any] = {"num_classes": CLASSES + 1, "ignore_index": 255, "average": None}

    counts = MulticlassConfusionMatrix(CLASSES + 1, ignore_index=255)(*pair)
    assert np.array_equal(matrix.counts[:, :-1], counts.numpy())
    iou = MulticlassJaccardIndex(**options)(*pair)
    np.testing.assert_allclose(matrix.iou(), 100 * iou.numpy(), rtol=1e-5)
    assert matrix.mean_iou() == pytest.approx(100 * float(iou.mean()), rel=1e-5)
    precision = MulticlassPrecision(**options)(*pair)
    np.testing.assert_allclose(matrix.precision(), 100 * precision.numpy(), rtol=1e-5)
    recall = MulticlassRecall(**options)(*pair)
    np.testing.assert_allclose(matrix.recall(), 100 * recall.numpy(), rtol=1e-5)


@settings(max_examples=40)
@given(label_pairs(), label_pairs())
def test_a_sum_of_matrices_is_the_matrix_of_all_pixels(
    first: tuple[Labels, Labels], second: tuple[Labels, Labels]
) -> None:
    together = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True)]
    added = ConfusionMatrix.of(*first, CLASSES) + ConfusionMatrix.of(*second, CLASSES)
    assert added == ConfusionMatrix.of(together[0], together[1], CLASSES)


@settings(max_examples=40)
@given(label_pairs())
def test_counts_are_those_of_a_loop_over_classes(pair: tuple[Labels, Labels]) -> None:
    truth, prediction = pair
    ids = [*range(CLASSES + 1), 255]
    slow = [[int(((truth == t) & (prediction == p)).sum()) for p in ids] for t in ids[:-1]]
    assert confusion(truth, prediction, CLASSES).tolist() == slow


@settings(max_examples=40)
@given(label_pairs())
def test_leaving_pixels_out_never_raises_the_default_figures(pair: tuple[Labels, Labels]) -> None:
    matrix = ConfusionMatrix.of(*pair, CLASSES)
    both = np.stack([matrix.iou("miss"), matrix.iou("skip")])
    known = ~np.isnan(both).any(axis=0)
    assert (both[0, known] <= both[1, known]).all()


def test_an_ignored_prediction_counts_as_a_miss_or_is_left_out() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 0, 0, 255]], dtype=np.uint8)
    prediction = np.array([[1, 1, 255, 0, 0, 0, 255, 1]], dtype=np.uint8)
    matrix = ConfusionMatrix.of(truth, prediction, 1)
    assert matrix.iou().tolist() == pytest.approx([50.0, 50.0])
    assert matrix.iou("skip").tolist() == pytest.approx([200 / 3, 200 / 3])
    assert matrix.recall().tolist() == pytest.approx([200 / 3, 50.0])
    assert matrix.precision().tolist() == pytest.approx([200 / 3, 100.0])
    assert matrix.coverage() == pytest.approx(500 / 7)
    assert matrix.accuracy() == pytest.approx(400 / 7)
    assert matrix.pixels == 7


def test_classes_absent_from_truth_and_prediction_are_left_out_of_the_mean() -> None:
    truth = np.array([[0, 0, 1, 1]], dtype=np.uint8)
    matrix = ConfusionMatrix.of(truth, truth, 20)
    assert np.isnan(matrix.iou()[2:]).all()
    assert matrix.mean_iou() == 100.0


def test_a_class_only_predicted_lowers_the_mean() -> None:
    truth = np.zeros((1, 4), dtype=np.uint8)
    prediction = np.array([[0, 0, 0, 2]], dtype=np.uint8)
    assert ConfusionMatrix.of(truth, prediction, 2).mean_iou() == pytest.approx(37.5)


def test_nothing_to_compare_gives_nan() -> None:
    matrix = ConfusionMatrix.empty(3)
    assert math.isnan(matrix.mean_iou())
    assert math.isnan(matrix.accuracy())
    assert math.isnan(matrix.coverage())
    assert np.isnan(matrix.shares()).all()


def test_254_classes_fit() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert ConfusionMatrix.of(labels, labels, 254).mean_iou() == 100.0


@pytest.mark.parametrize(
    ("truth", "prediction", "classes", "message"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 1, r"\(2, 2\).*\(2, 3\)"),
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), 1, "int64"),
        (np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8), 6, "truth holds class id 7"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 254, np.uint8), 6, "prediction holds.*254"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 255, "1..254"),
    ],
)
def test_wrong_input_is_refused(
    truth: Labels, prediction: Labels, classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(truth, prediction, classes)


def test_matrices_of_other_classes_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="3 and 4"):
        ConfusionMatrix.empty(3) + ConfusionMatrix.empty(4)
