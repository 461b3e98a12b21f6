"""Cues with the dense CRF: the values it starts from, the ignored band, sizes and tags."""

from __future__ import annotations

import numpy as np
import pytest

from dcsp.config import CRFSettings
from dcsp.cues.fusion import (
    adapt_labels,
    discover,
    harmonic_mean,
    refine_adapted,
    refine_cue,
    to_image,
)
from dcsp.images.resize import resize_map
from dcsp.inference.crf import dense_crf
from dcsp.inference.scores import softmax
from dcsp.labels import IGNORE

CRF = CRFSettings()
IDLE = CRFSettings(iterations=1, gaussian_compat=0, bilateral_compat=0)
"""A CRF that changes nothing: what is left is what it starts from."""


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with a square; attention of two tags and saliency that find most of it."""
    rng = np.random.default_rng(0)
    image = rng.integers(40, 60, (48, 64, 3)).astype(np.uint8)
    image[12:36, 20:44] = (200, 50, 40)
    attention = rng.random((2, 12, 16), np.float32) * 0.3
    attention[0, 4:8, 6:10] += 0.7
    saliency = rng.random((24, 24), np.float32) * 0.2
    saliency[6:18, 8:16] += 0.7
    return image, *to_image(attention, saliency, 48, 64)


def test_the_crf_starts_from_algorithm_1() -> None:
    image, attention, saliency = example()
    plain = discover(attention, saliency, [4, 9], 0.4, 0.4)
    labels = refine_cue(image, attention, saliency, [4, 9], 0.4, 0.4, IDLE)
    assert labels.dtype == np.uint8
    assert (labels == plain).mean() > 0.999  # ties and rounding aside


def test_it_is_the_crf_on_squared_harmonic_means_with_gamma_as_background() -> None:
    image, attention, saliency = example()
    means = harmonic_mean(attention, saliency)
    squares = np.concatenate([np.full((1, 48, 64), 0.3, np.float32), means]) ** 2
    refined = dense_crf(image, squares / squares.sum(axis=0), CRF)
    expected = np.array([0, 4, 9])[refined.argmax(axis=0)]
    labels = refine_cue(image, attention, saliency, [4, 9], 0.3, 0.3, CRF)
    np.testing.assert_array_equal(labels, expected)


def test_the_crf_starts_from_the_arithmetic_mean_where_that_is_asked_for() -> None:
    image, attention, saliency = example()
    plain = discover(attention, saliency, [4, 9], 0.5, 0.5, "arithmetic")
    labels = refine_cue(image, attention, saliency, [4, 9], 0.5, 0.5, IDLE, "arithmetic")
    assert (labels == plain).mean() > 0.999
    assert (plain != discover(attention, saliency, [4, 9], 0.5, 0.5)).any()


def test_the_crf_makes_the_cue_follow_the_image() -> None:
    image, attention, saliency = example()
    square = np.zeros((48, 64), bool)
    square[12:36, 20:44] = True
    plain = discover(attention, saliency, [4, 9], 0.3, 0.3)
    labels = refine_cue(image, attention, saliency, [4, 9], 0.3, 0.3, CRF)
    before, after = (((cue == 4) == square).mean() for cue in (plain, labels))
    assert after > before and after > 0.99


def test_the_band_ignores_what_two_gammas_disagree_on() -> None:
    image, attention, saliency = example()
    low, high = (refine_cue(image, attention, saliency, [4, 9], g, g, IDLE) for g in (0.2, 0.6))
    band = refine_cue(image, attention, saliency, [4, 9], 0.2, 0.6, IDLE)
    assert (band == IGNORE).any()
    np.testing.assert_array_equal(band == IGNORE, (low != 0) & (high == 0))
    np.testing.assert_array_equal(band[band != IGNORE], high[band != IGNORE])
    assert (low[band == 0] == 0).all()


def test_a_gamma_of_zero_is_no_fault() -> None:
    image, attention, saliency = example()
    saliency[:12] = 0
    labels = refine_cue(image, attention[:1], saliency, [4], 0.0, 0.0, CRF)
    assert set(np.unique(labels)) <= {0, 4}


def test_adapted_cues_start_from_the_masked_argmax() -> None:
    image, _, _ = example()
    scores = np.random.default_rng(1).normal(0, 2, (6, 12, 16)).astype(np.float32)
    labels = refine_adapted(image, scores, [2, 5], IDLE)
    np.testing.assert_array_equal(labels, adapt_labels(scores, [2, 5], 48, 64))
    assert set(np.unique(refine_adapted(image, scores, [2, 5], CRF))) <= {0, 2, 5}
    shares = softmax(scores)
    among = resize_map(shares[[0, 2, 5]], 48, 64, corners=True)
    refined = dense_crf(image, among / among.sum(axis=0), CRF).argmax(axis=0)
    labels = refine_adapted(image, shares, [2, 5], CRF, "mean")
    assert (labels == np.array([0, 2, 5])[refined]).mean() > 0.999
    assert (labels != refine_adapted(image, shares, [2, 5], CRF, "max")).mean() > 0.01


def test_an_image_without_tags_is_background() -> None:
    image, attention, saliency = example()
    assert not refine_cue(image, attention[:0], saliency, [], 0.4, 0.4, CRF).any()
    labels = refine_adapted(image, np.zeros((6, 12, 16), np.float32), [], CRF)
    assert labels.shape == (48, 64) and not labels.any()


def test_tags_that_do_not_fit_are_refused() -> None:
    image, attention, saliency = example()
    with pytest.raises(ValueError):
        refine_cue(image, attention, saliency, [4], 0.4, 0.4, CRF)
    with pytest.raises(ValueError, match="5 classes"):
        refine_adapted(image, np.zeros((6, 3, 3), np.float32), [6], CRF)
