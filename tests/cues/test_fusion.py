"""Algorithm 1 and adaptation against slow per-pixel readings of the paper, and their invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dcsp.config.cues import Mean
from dcsp.cues.fusion import adapt_labels, discover, fuse, harmonic_mean, to_image
from dcsp.labels import BACKGROUND, IGNORE

unit = st.floats(0, 1, width=32)
gammas = st.floats(0.0078125, 1, width=32)
tag_sets = st.lists(st.integers(1, 20), unique=True, max_size=4).map(sorted)


def slow_harmonic_mean(a: float, s: float) -> float:
    return 0.0 if a + s == 0 else 2 * a * s / (a + s)


def slow_cue(attention, saliency, tags, gamma_low, gamma_high) -> np.ndarray:
    """Algorithm 1, pixel by pixel, in double precision."""
    labels = np.zeros(saliency.shape, np.uint8)
    for y, x in np.ndindex(saliency.shape):
        means = [slow_harmonic_mean(float(a[y, x]), float(saliency[y, x])) for a in attention]
        if not means or max(means) < gamma_low:
            continue
        labels[y, x] = IGNORE if max(means) < gamma_high else tags[int(np.argmax(means))]
    return labels


def random_maps(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((count, 9, 11), np.float32), rng.random((9, 11), np.float32)


@given(seed=st.integers(0, 9999), tags=tag_sets, gammas=st.tuples(gammas, gammas).map(sorted))
def test_discover_is_algorithm_1(seed: int, tags: list[int], gammas: list[float]) -> None:
    attention, saliency = random_maps(seed, len(tags))
    means = [[slow_harmonic_mean(a, s) for a, s in zip(m.ravel(), saliency.ravel(), strict=True)]
             for m in attention.astype(float)]  # fmt: skip
    near = [abs(mean - gamma) for gamma in gammas for row in means for mean in row]
    assume(not near or min(near) > 1e-6)
    expected = slow_cue(attention, saliency, tags, *gammas)
    np.testing.assert_array_equal(discover(attention, saliency, tags, *gammas), expected)


@given(seed=st.integers(0, 9999), tags=tag_sets.filter(bool), gamma=gammas)
def test_saliency_decides_only_what_is_background(seed: int, tags: list[int], gamma: float) -> None:
    attention, saliency = random_maps(seed, len(tags))
    labels = discover(attention, saliency, tags, gamma, gamma)
    strongest = np.array(tags)[attention.argmax(axis=0)]
    assert ((labels == BACKGROUND) | (labels == strongest)).all()


@pytest.mark.parametrize(
    ("saliency", "least"),
    [(1, 0.25), (0.8, 0.267), (0.6, 0.3), (0.5, 0.333), (0.4, 0.4), (0.3, 0.6), (0.25, 1.0)],
)
def test_the_papers_threshold_as_the_attention_it_takes(saliency: float, least: float) -> None:
    """method.md 1.5: H ≥ 0.4 ⇔ a ≥ γs / (2s − γ)."""
    exact = 0.4 * saliency / (2 * saliency - 0.4)
    assert exact == pytest.approx(least, abs=1e-3)
    around = np.array([[[exact - 1e-5, min(1.0, exact + 1e-5)]]], np.float32)
    labels = discover(around, np.full((1, 2), saliency, np.float32), [5], 0.4, 0.4)
    assert labels.tolist() == [[0, 5]]


def test_low_saliency_is_never_an_object() -> None:
    attention = np.ones((1, 3, 3), np.float32)
    assert not discover(attention, np.full((3, 3), 0.249, np.float32), [5], 0.4, 0.4).any()
    assert not discover(attention, np.zeros((3, 3), np.float32), [5], 0.4, 0.4).any()


@given(seed=st.integers(0, 9999), low=gammas, high=gammas)
def test_the_band_only_takes_pixels_away(seed: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    attention, saliency = random_maps(seed, 2)
    lower, upper = (discover(attention, saliency, [3, 8], g, g) for g in (low, high))
    band = discover(attention, saliency, [3, 8], low, high)
    np.testing.assert_array_equal(band == BACKGROUND, lower == BACKGROUND)
    np.testing.assert_array_equal(band[band != IGNORE], np.where(lower, upper, 0)[band != IGNORE])
    np.testing.assert_array_equal(band == IGNORE, (lower != 0) & (upper == 0))


@given(seed=st.integers(0, 9999), low=gammas, high=gammas)
def test_more_saliency_and_less_gamma_only_grow_the_object(
    seed: int, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    attention, saliency = random_maps(seed, 2)
    strict = discover(attention, saliency, [3, 8], high, high)
    assert ((strict == 0) | (strict == discover(attention, saliency, [3, 8], low, low))).all()
    more = np.maximum(saliency, random_maps(seed + 1, 0)[1])
    assert ((strict == 0) | (strict == discover(attention, more, [3, 8], high, high))).all()


def test_an_image_without_tags_is_background() -> None:
    labels = discover(np.zeros((0, 4, 5), np.float32), np.ones((4, 5), np.float32), [], 0.4, 0.4)
    assert labels.shape == (4, 5) and labels.dtype == np.uint8 and not labels.any()


def test_maps_that_do_not_belong_together_are_refused() -> None:
    for shape in [(2, 4, 5), (1, 4, 4), (4, 5)]:
        with pytest.raises(ValueError, match="does not fit"):
            discover(np.zeros(shape, np.float32), np.zeros((4, 5), np.float32), [1], 0.4, 0.4)


@given(unit, unit)
def test_the_harmonic_mean_lies_between_and_is_symmetric(a: float, s: float) -> None:
    first, second = np.array([[a]], np.float32), np.array([[s]], np.float32)
    mean = harmonic_mean(first, second)
    assert mean.dtype == np.float32
    assert mean == pytest.approx(slow_harmonic_mean(a, s), rel=1e-5, abs=1e-12)
    assert mean == harmonic_mean(second, first)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@given(seed=st.integers(0, 9999), tags=tag_sets.filter(bool), gamma=gammas)
def test_other_means_share_one_foreground_among_the_tags(
    mean: Mean, seed: int, tags: list[int], gamma: float
) -> None:
    attention, saliency = random_maps(seed, len(tags))
    fused = fuse(attention, saliency, mean)
    np.testing.assert_array_equal(fused.argmax(axis=0), attention.argmax(axis=0))
    strongest_map = attention.astype(float).max(axis=0)
    if mean == "arithmetic":
        expected = (strongest_map + saliency) / 2
    else:
        expected = np.sqrt(strongest_map * saliency)
    np.testing.assert_allclose(fused.max(axis=0), expected, rtol=1e-5)
    np.testing.assert_allclose(fused / fused.max(axis=0), attention / attention.max(axis=0), 1e-5)
    assume(np.abs(expected - gamma).min() > 1e-6)
    labels = discover(attention, saliency, tags, gamma, gamma, mean)
    strongest = np.array(tags)[attention.argmax(axis=0)]
    np.testing.assert_array_equal(labels, np.where(expected < gamma, BACKGROUND, strongest))


def test_saliency_without_any_attention_is_no_object() -> None:
    nothing, everywhere = np.zeros((2, 3, 3), np.float32), np.ones((3, 3), np.float32)
    assert not fuse(nothing, everywhere, "arithmetic").any()


def test_maps_come_to_the_image_normalised_over_it() -> None:
    rng = np.random.default_rng(0)
    attention = rng.normal(size=(2, 5, 6)).astype(np.float32)
    saliency = rng.random((8, 8), np.float32)
    full, salient = to_image(attention, saliency, 40, 30)
    assert full.shape == (2, 40, 30) and salient.shape == (40, 30)
    assert full.min(axis=(1, 2)).tolist() == [0, 0] and full.max(axis=(1, 2)).tolist() == [1, 1]
    stored = (attention - attention.min()) / 10  # any rise and stretch, as a cue table may hold it
    np.testing.assert_allclose(to_image(stored, saliency, 40, 30)[0], full, atol=1e-5)


def test_probabilities_come_to_the_image_as_they_are() -> None:
    maps = np.full((1, 3, 4), 0.3, np.float32)
    full, _ = to_image(maps, np.ones((8, 8), np.float32), 9, 10, normalize=False)
    np.testing.assert_allclose(full, np.full((1, 9, 10), 0.3), atol=1e-6)


def test_attention_lies_on_the_images_corners_and_saliency_fills_it() -> None:
    """Cells of a score map are centred on pixels; a saliency map's pixels are those of a resize."""
    rng = np.random.default_rng(1)
    attention, saliency = rng.random((2, 5, 6), np.float32), rng.random((8, 8), np.float32)
    full, salient = to_image(attention, saliency, 33, 41)
    low, high = attention.min((1, 2), keepdims=True), attention.max((1, 2), keepdims=True)
    np.testing.assert_allclose(full[:, ::8, ::8], (attention - low) / (high - low), atol=1e-5)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(saliency)[None, None], (33, 41), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(salient, expected[0, 0], atol=1e-6)


def test_a_cell_labels_the_pixel_it_is_centred_on() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    labels = adapt_labels(scores, [1, 2, 3], 65, 97)
    np.testing.assert_array_equal(labels[::16, ::16], scores.argmax(axis=0))


def masked_argmax(scores: np.ndarray, tags: list[int], height: int, width: int) -> np.ndarray:
    """The definition: upsample every class, −inf for the absent ones, argmax."""
    full = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], size=(height, width), mode="bilinear", align_corners=True
    )[0]
    for channel in range(len(scores)):
        if channel != 0 and channel not in tags:
            full[channel] = -torch.inf
    return full.argmax(dim=0).numpy()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 9999), tags=tag_sets, size=st.tuples(st.integers(1, 40), st.integers(1, 40))
)
def test_adapt_is_the_masked_argmax(seed: int, tags: list[int], size: tuple[int, int]) -> None:
    scores = np.random.default_rng(seed).normal(size=(21, 5, 7)).astype(np.float32)
    labels = adapt_labels(scores, tags, *size)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, *tags}
    np.testing.assert_array_equal(labels, masked_argmax(scores, tags, *size))


def test_an_absent_class_never_wins_against_negative_scores() -> None:
    """Released code multiplied absent classes by 0, and 0 beats negative logits."""
    scores = np.full((4, 3, 3), -5.0, np.float32)
    scores[2] = -2.0
    scores[3] = 9.0
    assert (adapt_labels(scores, [2], 6, 6) == 2).all()


def test_adapt_refuses_a_tag_without_a_channel() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        adapt_labels(np.zeros((4, 3, 3), np.float32), [4], 6, 6)
