"""Intervals of figures: they add up, wherever parts are looked at, and are as wide as needed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dcsp.evaluation.bootstrap import SAMPLES, Samples
from dcsp.evaluation.confusion import ConfusionMatrix

CLASSES = 2


def matrices(images: int, seed: int = 0) -> list[ConfusionMatrix]:
    """Images of 100 pixels, of which each gets a share of its own right."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        truth = rng.integers(0, CLASSES + 1, 100).astype(np.uint8)[None]
        wrong = rng.random(truth.shape) < rng.uniform(0, 0.8)
        label = np.where(wrong, 0, truth).astype(np.uint8)
        found.append(ConfusionMatrix.of(truth, label, CLASSES))
    return found


def together(found: list[ConfusionMatrix]) -> Samples:
    return Samples.of({f"image{number}": matrix for number, matrix in enumerate(found)})


def mean_iou(found: list[ConfusionMatrix]) -> float:
    return sum(found, ConfusionMatrix.empty(CLASSES)).mean_iou()


def test_samples_add_up_in_any_order() -> None:
    found = matrices(20)
    parts = [Samples.of({f"image{n}": m}) for n, m in enumerate(found)]
    assert sum(parts[::-1], Samples.empty(CLASSES)) == together(found)
    assert together(found).counts.shape == (SAMPLES, 3, CLASSES + 1)


def test_the_interval_is_that_of_an_ordinary_bootstrap() -> None:
    found = matrices(80)
    rng = np.random.default_rng(1)
    drawn: NDArray[np.float64] = np.array(
        [mean_iou([found[n] for n in rng.integers(0, 80, 80)]) for _ in range(400)]
    )
    low, high = np.quantile(drawn, [0.05, 0.95])
    interval = together(found).interval()
    assert interval is not None
    assert interval[0] < mean_iou(found) < interval[1]
    assert interval == pytest.approx((low, high), abs=0.25 * (high - low))


def test_more_images_make_it_narrower() -> None:
    few, many = (together(matrices(images)).interval() for images in (20, 320))
    assert few and many
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_of_no_image_there_is_none() -> None:
    assert Samples.empty(CLASSES).interval() is None


def test_images_that_show_a_class_are_counted() -> None:
    truth = np.array([[0, 2, 2]], np.uint8)
    matrix = ConfusionMatrix.of(truth, np.array([[1, 1, 2]], np.uint8), CLASSES)
    assert Samples.of({"a": matrix, "b": matrix}).shown.tolist() == [2, 0, 2]
