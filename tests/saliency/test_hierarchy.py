"""Hierarchical saliency against the paper's definition, written out image by image."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.saliency.hierarchy import MEAN_COLOUR, hierarchical_saliency


class Brightness:
    """Finds what stands out most: a pixel's distance from the mean colour over the largest one."""

    height, width = 12, 16

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        distance = np.abs(images.astype(np.float32) - MEAN_COLOUR).max(axis=-1)
        peak = np.maximum(distance.max(axis=(1, 2), keepdims=True), 1)
        return np.asarray(distance / peak, np.float32)


def by_definition(image: np.ndarray, thresholds: list[float]) -> np.ndarray:
    detector, image = Brightness(), image.copy()
    levels = []
    best = np.zeros(image.shape[:2], np.float32)
    for threshold in [*thresholds, None]:
        found = detector(image[None])[0]
        best = np.maximum(best, found)
        levels.append(best)
        if threshold is not None:
            for y, x in zip(*np.nonzero(found > threshold), strict=True):
                image[y, x] = MEAN_COLOUR
    return np.stack(levels)


def scenes(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(count)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 4),
    thresholds=st.lists(st.floats(0.0, 1.0), max_size=3),
)
def test_it_is_the_definition_and_never_falls(
    seed: int, count: int, thresholds: list[float]
) -> None:
    images = scenes(seed, count)
    results = hierarchical_saliency(images, Brightness(), thresholds)
    for image, result in zip(images, results, strict=True):
        assert result.shape == (len(thresholds) + 1, 12, 16) and result.dtype == np.float32
        assert result.min() >= 0 and result.max() <= 1
        assert (np.diff(result, axis=0) >= 0).all()
        np.testing.assert_array_equal(result, by_definition(image, thresholds))


def test_later_passes_find_what_the_first_overlooked() -> None:
    image = np.full((12, 16, 3), MEAN_COLOUR, np.uint8)
    image[2:6, 2:6] = 255  # the main object
    image[8:10, 10:14] = 160  # stands out only when the main one is gone
    (levels,) = hierarchical_saliency([image], Brightness(), (0.7, 0.8))
    assert levels[0, 3, 3] == 1 and levels[0, 9, 12] < 0.7
    assert levels[1, 9, 12] == 1 and levels[1, 3, 3] == 1


def test_erasing_uses_this_passs_map_not_the_maximum() -> None:
    seen: list[np.ndarray] = []

    class Scripted:
        height, width = 1, 3
        maps = iter(([0.9, 0.1, 0.1], [0.2, 0.9, 0.1], [0.0, 0.0, 0.3]))

        def __call__(self, images: np.ndarray) -> np.ndarray:
            seen.append(images.copy())
            return np.array(next(self.maps), np.float32).reshape(1, 1, 3)

    image = np.zeros((1, 3, 3), np.uint8)
    (levels,) = hierarchical_saliency([image], Scripted(), (0.7, 0.8))
    assert (seen[1][0, 0] == MEAN_COLOUR).all(axis=-1).tolist() == [True, False, False]
    assert (seen[2][0, 0] == MEAN_COLOUR).all(axis=-1).tolist() == [True, True, False]
    np.testing.assert_allclose(levels[2, 0], [0.9, 0.9, 0.3])


def test_an_image_without_anything_to_erase_is_looked_at_once() -> None:
    detector = Brightness()
    plain = np.full((12, 16, 3), MEAN_COLOUR, np.uint8)
    spot = plain.copy()
    spot[3, 3] = 255
    results = hierarchical_saliency([plain, spot, plain], detector, (0.7, 0.8))
    assert detector.calls == [3, 1]  # after the first erasing the spot is gone as well
    assert results[0].max() == 0 and results[1].max() == 1


def test_images_of_other_sizes_are_resized_and_left_as_they_were() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    before = image.copy()
    (levels,) = hierarchical_saliency([image], Brightness(), (0.5,))
    assert levels.shape == (2, 12, 16)
    np.testing.assert_array_equal(image, before)


def test_no_images_are_no_maps() -> None:
    assert hierarchical_saliency([], Brightness(), (0.7,)) == []
