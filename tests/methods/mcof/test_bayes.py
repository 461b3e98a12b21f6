"""Bayes' rule: its bounds, its direction, and a slow reading of it, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.methods.mcof.bayes import refine_saliency

seeds = st.integers(0, 9999)
bins_of_tests = st.sampled_from([1, 2, 3, 16, 31])


def random_case(
    seed: int, *, colours: int = 256, ignored: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (colours, 3), np.uint8)[rng.integers(0, colours, (9, 11))]
    mined = rng.choice([0, 1, 255] if ignored else [0, 1], (9, 11)).astype(np.uint8)
    return image, rng.random((9, 11), np.float32), mined


def slow_shares(image: np.ndarray, mask: np.ndarray, bins: int) -> np.ndarray:
    """Joint histogram: each pixel gives 1/4, 1/2, 1/4 to the bins around its own, on each axis."""
    cube = np.zeros((bins, bins, bins))
    for y, x in zip(*np.nonzero(mask), strict=True):
        own = [int(value) * bins // 256 for value in image[y, x]]
        for step in np.ndindex(3, 3, 3):
            at = tuple(min(max(o + s - 1, 0), bins - 1) for o, s in zip(own, step, strict=True))
            cube[at] += np.prod([(0.25, 0.5, 0.25)[s] for s in step])
    return cube / mask.sum()


def slow_posterior(
    image: np.ndarray, saliency: np.ndarray, mined: np.ndarray, bins: int
) -> np.ndarray:
    anywhere = slow_shares(image, np.ones_like(mined), bins)
    object_ = 0.9 * slow_shares(image, mined == 1, bins) + 0.1 * anywhere
    background = 0.9 * slow_shares(image, mined == 0, bins) + 0.1 * anywhere
    posterior = np.zeros(saliency.shape)
    for y, x in np.ndindex(saliency.shape):
        at = tuple(int(value) * bins // 256 for value in image[y, x])
        prior = float(saliency[y, x])
        joint = prior * object_[at], (1 - prior) * background[at]
        posterior[y, x] = joint[0] / sum(joint)
    return posterior


@settings(max_examples=20)
@given(seeds, st.sampled_from([1, 2, 5]), st.sampled_from([2, 5, 256]))
def test_it_is_bayes_rule(seed: int, bins: int, colours: int) -> None:
    image, saliency, mined = random_case(seed, colours=colours)
    refined = refine_saliency(image, saliency, mined, bins=bins)
    np.testing.assert_allclose(refined, slow_posterior(image, saliency, mined, bins), atol=1e-5)


@given(seeds, bins_of_tests)
def test_bounds(seed: int, bins: int) -> None:
    image, saliency, mined = random_case(seed)
    saliency[0], saliency[-1] = 0, 1
    refined = refine_saliency(image, saliency, mined, bins=bins)
    assert refined.dtype == np.float32
    assert (refined >= 0).all() and (refined <= 1).all()
    assert (refined[0] == 0).all() and (refined[-1] == 1).all()
    assert (refined[1:-1] > 0).all() and (refined[1:-1] < 1).all()


@given(seeds, bins_of_tests)
def test_equal_likelihoods_leave_the_prior(seed: int, bins: int) -> None:
    """Of one colour, of one bin, or the same colours in the object and in the background."""
    image, saliency, mined = random_case(seed)
    flat = np.full_like(image, 77)
    np.testing.assert_allclose(refine_saliency(flat, saliency, mined, bins=bins), saliency, 1e-5)
    np.testing.assert_allclose(refine_saliency(image, saliency, mined, bins=1), saliency, 1e-5)
    twice = np.concatenate([image, image])
    prior = np.concatenate([saliency, saliency[::-1]])
    halves = np.repeat([0, 1], 9).astype(np.uint8)[:, None].repeat(11, axis=1)
    np.testing.assert_allclose(refine_saliency(twice, prior, halves, bins=bins), prior, 1e-5)


@given(seeds, bins_of_tests)
def test_swapping_object_and_background_swaps_the_answer(seed: int, bins: int) -> None:
    image, saliency, mined = random_case(seed)
    refined = refine_saliency(image, saliency, mined, bins=bins)
    swapped = np.where(mined <= 1, 1 - mined, mined).astype(np.uint8)
    other = refine_saliency(image, 1 - saliency, swapped, bins=bins)
    np.testing.assert_allclose(refined, 1 - other, atol=1e-5)


def test_the_objects_colour_rises_wherever_it_is_and_the_backgrounds_falls() -> None:
    red, green = (200, 40, 40), (40, 200, 40)
    image = np.zeros((10, 20, 3), np.uint8)
    image[:], image[2:8, 4:16] = green, red
    mined = np.zeros((10, 20), np.uint8)
    mined[3:6, 5:9] = 1  # a part of the object, and all else taken for background
    prior = np.full((10, 20), 0.5, np.float32)
    refined = refine_saliency(image, prior, mined)
    assert refined[2:8, 4:16].min() > 0.6
    outside = np.ones((10, 20), bool)
    outside[2:8, 4:16] = False
    assert refined[outside].max() < 0.2


def test_a_higher_prior_never_gives_a_lower_answer() -> None:
    image, saliency, mined = random_case(4, colours=5)
    refined = refine_saliency(image, saliency, mined)
    higher = refine_saliency(image, np.minimum(saliency + np.float32(0.1), 1), mined)
    assert (higher > refined)[saliency < 0.99].all()


@pytest.mark.parametrize("value", [0, 1, 255])
def test_without_an_object_or_a_background_the_prior_stays(value: int) -> None:
    image, saliency, _ = random_case(5)
    refined = refine_saliency(image, saliency, np.full((9, 11), value, np.uint8))
    np.testing.assert_array_equal(refined, saliency)
    assert refined is not saliency


def test_what_does_not_belong_together_is_refused() -> None:
    image, saliency, mined = random_case(6)
    with pytest.raises(ValueError, match="do not fit an image"):
        refine_saliency(image, saliency[1:], mined)
    with pytest.raises(ValueError, match="do not fit an image"):
        refine_saliency(image, saliency, mined.T)
    with pytest.raises(ValueError, match="Expected HWC uint8"):
        refine_saliency(image.astype(np.float32), saliency, mined)
    with pytest.raises(ValueError, match="float32 in"):
        refine_saliency(image, saliency + np.float32(0.5), mined)
    with pytest.raises(ValueError, match="float32 in"):
        refine_saliency(image, saliency.astype(np.float64), mined)
    with pytest.raises(ValueError, match="1–256"):
        refine_saliency(image, saliency, mined, bins=257)
