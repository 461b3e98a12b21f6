"""Resizing of images, maps and labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dcsp.images.resize import limit_side, resize_labels, resize_map, resize_rgb


def test_resized_images_are_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_rgb(stripes, 16, 8)
    assert small.shape == (16, 8, 3)
    assert np.abs(small.astype(int) - 128).max() < 24
    same = resize_rgb(stripes, 64, 64)
    assert same is not stripes
    np.testing.assert_array_equal(same, stripes)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
        elements=st.floats(0, 1, width=32),
    ),
    st.integers(1, 9),
    st.integers(1, 9),
)
@pytest.mark.parametrize("corners", [False, True])
def test_resized_maps_stay_in_range(
    corners: bool, map_: np.ndarray, height: int, width: int
) -> None:
    resized = resize_map(map_, height, width, corners=corners)
    assert resized.dtype == np.float32
    assert resized.shape == (*map_.shape[:-2], height, width)
    assert resized.min() >= map_.min() - 1e-6
    assert resized.max() <= map_.max() + 1e-6


def test_the_values_of_a_score_map_lie_on_every_strideth_pixel() -> None:
    stretched = resize_map(np.array([[0.0, 1.0, 4.0]]), 1, 5, corners=True)
    np.testing.assert_allclose(stretched, [[0.0, 0.5, 1.0, 2.5, 4.0]])
    maps = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    full = resize_map(maps, 65, 49, corners=True)
    np.testing.assert_allclose(full[:, ::16, ::16], maps, atol=1e-5)
    columns = np.stack([[np.interp(np.arange(49) / 16, range(4), row) for row in m] for m in maps])
    rows = np.stack([[np.interp(np.arange(65) / 16, range(5), c) for c in m.T] for m in columns])
    np.testing.assert_allclose(full, rows.transpose(0, 2, 1), atol=1e-5)


def test_maps_are_resized_between_pixel_centres() -> None:
    doubled = resize_map(np.array([[0.0, 1.0]]), 1, 4)
    np.testing.assert_allclose(doubled, [[0.0, 0.25, 0.75, 1.0]])
    assert resize_map(np.zeros((0, 3, 3), np.float32), 5, 6).shape == (0, 5, 6)
    read_only = np.eye(4, dtype=np.float32)
    read_only.flags.writeable = False
    assert resize_map(read_only[::-1], 8, 8).shape == (8, 8)
    with pytest.raises(ValueError, match="HW or CHW"):
        resize_map(np.zeros(3), 2, 2)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_labels_are_resized_as_pillow_resizes_nearest(
    labels: np.ndarray, height: int, width: int
) -> None:
    for old, new in zip(labels.shape, (height, width), strict=True):
        # at ties Pillow rounds either way
        assume(all((2 * index + 1) * old % (2 * new) for index in range(new)))
    expected = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_labels(labels, height, width), np.asarray(expected))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000))
def test_the_longest_side_is_limited(height: int, width: int, max_side: int) -> None:
    limited = limit_side(height, width, max_side)
    assert max(limited) <= max(max_side, 1)
    assert min(limited) >= 1
    if max(height, width) <= max_side:
        assert limited == (height, width)
    assert limit_side(height, width, None) == (height, width)
