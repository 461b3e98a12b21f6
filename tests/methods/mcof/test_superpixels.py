"""Superpixels: they cut where colours change, are one piece each, and follow their settings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dcsp.config import SuperpixelSettings
from dcsp.methods.mcof.superpixels import superpixels

SMALL = SuperpixelSettings(scale=50, min_size=12)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft blots of colour with a little noise."""
    rng = np.random.default_rng(seed)
    blots = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (4, 4, 0))
    noisy = 128 + blots / np.abs(blots).max() * 120 + rng.normal(size=blots.shape) * 3
    return noisy.clip(0, 255).astype(np.uint8)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_ids_are_without_gaps_and_regions_are_large_and_in_one_piece(
    height: int, width: int, seed: int
) -> None:
    regions = superpixels(photograph(height, width, seed), SMALL)
    assert regions.dtype == np.int32 and regions.shape == (height, width)
    areas = np.bincount(regions.ravel())
    assert areas.min() >= min(SMALL.min_size, height * width)
    corners = np.ones((3, 3))
    pieces = [ndimage.label(regions == region, corners)[1] for region in range(len(areas))]
    assert pieces == [1] * len(areas)


def test_areas_of_one_colour_are_found() -> None:
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
    truth = np.zeros((40, 60), np.intp)
    truth[5:25, 10:30], truth[20:38, 40:55] = 1, 2
    regions = superpixels(colours[truth], SuperpixelSettings(sigma=0))
    pairs = np.unique(np.stack([truth.ravel(), regions.ravel()]), axis=1)
    assert pairs.shape == (2, 3) and regions.max() == 2


def test_settings_do_what_they_say() -> None:
    image = photograph(80, 100)

    def count(**changes: float) -> int:
        return int(superpixels(image, SMALL.model_copy(update=changes)).max()) + 1

    assert count(scale=10) > count(scale=50) > count(scale=400) > 1
    assert count(min_size=3) > count(min_size=12) > count(min_size=100)
    assert count(sigma=0.0) != count(sigma=2.0)


def test_a_photograph_of_vocs_size_gets_hundreds_of_superpixels_at_most() -> None:
    regions = superpixels(photograph(375, 500), SuperpixelSettings())
    assert 50 < regions.max() < 400


def test_the_image_may_be_read_only_and_is_left_as_it_was() -> None:
    image = photograph(20, 30)
    before = image.copy()
    image.flags.writeable = False
    again = superpixels(image, SMALL)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(superpixels(before, SMALL), again)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Expected HWC uint8"):
        superpixels(image, SMALL)
