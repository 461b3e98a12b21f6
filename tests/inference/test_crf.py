"""The dense CRF against pydensecrf called by hand, and what leaving labels out costs."""

from __future__ import annotations

import numpy as np
import pydensecrf.densecrf as reference
import pytest

from dcsp.config import CRFSettings
from dcsp.images.resize import resize_map
from dcsp.inference.crf import DenseCRF, crf_labels, dense_crf

SETTINGS = CRFSettings()


def picture(height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    """An image of two objects on a background, and their labels (0, 1, 2)."""
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    labels[(rows - 20) ** 2 + (columns - 14) ** 2 < 100] = 1
    labels[10:30, 34:50] = 2
    colours = np.array([[60, 120, 60], [200, 60, 50], [60, 60, 210]], np.float32)
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    return (colours[labels] + noise).clip(0, 255).astype(np.uint8), labels


def soft(labels: np.ndarray, classes: int, seed: int = 0) -> np.ndarray:
    """Probabilities that a network might give: blurred, noisy, a little of every class."""
    rng = np.random.default_rng(seed)
    scores = np.stack([(labels == c)[2::4, 2::4] * 8.0 for c in range(classes)])
    scores += rng.normal(0, 1, scores.shape)
    powers = np.exp(resize_map(scores, *labels.shape))
    return (powers / powers.sum(axis=0)).astype(np.float32)


def by_hand(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    count, height, width = probabilities.shape
    field = reference.DenseCRF2D(width, height, count)
    unary = -np.log(np.clip(probabilities, 1e-8, 1)).reshape(count, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    kernel = {"kernel": reference.DIAG_KERNEL, "normalization": reference.NORMALIZE_SYMMETRIC}
    field.addPairwiseGaussian(sxy=3, compat=3, **kernel)
    field.addPairwiseBilateral(sxy=49, srgb=5, rgbim=image.copy(), compat=4, **kernel)
    return np.array(field.inference(10)).reshape(count, height, width)


def test_it_is_pydensecrf_with_deeplabs_values() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    refined = dense_crf(image, probabilities, SETTINGS)
    assert refined.dtype == np.float32 and refined.shape == probabilities.shape
    np.testing.assert_allclose(refined, by_hand(image, probabilities), atol=1e-6)
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-4)


def test_labels_snap_to_the_image() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    before = (probabilities.argmax(axis=0) == labels).mean()
    after = (dense_crf(image, probabilities, SETTINGS).argmax(axis=0) == labels).mean()
    assert after > before + 0.02 and after > 0.95


def test_one_crf_serves_any_number_of_unaries() -> None:
    image, labels = picture()
    field = DenseCRF(image, 3, SETTINGS)
    for seed in range(3):
        probabilities = soft(labels, 3, seed=seed)
        np.testing.assert_array_equal(
            field(probabilities), dense_crf(image, probabilities, SETTINGS)
        )


def test_read_only_strided_double_and_zero_inputs_are_fine() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    expected = dense_crf(image, probabilities, SETTINGS)
    wide = np.repeat(probabilities, 2, axis=2).astype(np.float64)
    frozen_image, frozen = image[:], wide[:, :, ::2]
    frozen_image.flags.writeable = False
    frozen.flags.writeable = False
    np.testing.assert_allclose(dense_crf(frozen_image, frozen, SETTINGS), expected, atol=1e-5)
    hard = np.stack([labels == c for c in range(3)]).astype(np.float32)
    assert np.isfinite(dense_crf(image, hard, SETTINGS)).all()


def test_the_inputs_are_left_as_they_were() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    copies = image.copy(), probabilities.copy()
    dense_crf(image, probabilities, SETTINGS)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(probabilities, copies[1])


def test_settings_reach_the_crf() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    idle = CRFSettings(iterations=3, gaussian_compat=0, bilateral_compat=0)
    normal = dense_crf(image, probabilities, SETTINGS)
    np.testing.assert_allclose(dense_crf(image, probabilities, idle), probabilities, atol=1e-5)
    assert not np.allclose(dense_crf(image, probabilities, CRFSettings(iterations=1)), normal)


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_do_not_matter_are_left_out_without_a_difference(seed: int) -> None:
    image, labels = picture()
    probabilities = soft(labels, 21, seed=seed)
    assert len(np.unique(probabilities.argmax(axis=0))) < 21
    ids = list(range(21))
    full = by_hand(image, probabilities).argmax(axis=0)
    assert (crf_labels(image, probabilities, ids, SETTINGS) == full).mean() > 0.999


def test_labels_come_back_as_ids() -> None:
    image, labels = picture()
    found = crf_labels(image, soft(labels, 3), [0, 7, 15], SETTINGS)
    assert found.dtype == np.uint8 and np.unique(found).tolist() == [0, 7, 15]


def test_one_label_that_matters_is_everywhere() -> None:
    image, _ = picture()
    probabilities = np.full((3, 40, 56), 0.02, np.float32)
    probabilities[1] = 0.96
    assert (crf_labels(image, probabilities, [0, 4, 9], SETTINGS) == 4).all()


def test_a_few_pixels_of_a_label_go_to_the_others() -> None:
    image, _ = picture(100, 100)
    probabilities = np.full((2, 100, 100), 0.1, np.float32)
    probabilities[0] += 0.8
    probabilities[:, 50, 50] = (0.4, 0.6)
    assert not crf_labels(image, probabilities, [0, 4], SETTINGS).any()


def test_many_labels_that_are_all_unlikely_still_have_a_winner() -> None:
    image, _ = picture()
    probabilities = np.full((30, 40, 56), 1 / 30, np.float32)
    probabilities[12] += 0.01
    assert (crf_labels(image, probabilities, list(range(30)), SETTINGS) == 12).all()


def test_what_does_not_fit_is_refused() -> None:
    image, labels = picture()
    probabilities = soft(labels, 3)
    with pytest.raises(ValueError, match="belong together"):
        crf_labels(image[:-1], probabilities, [0, 1, 2], SETTINGS)
    with pytest.raises(ValueError, match="belong together"):
        crf_labels(image, probabilities, [0, 1], SETTINGS)
    with pytest.raises(ValueError, match="Expected"):
        dense_crf(image, probabilities[:, 1:], SETTINGS)
    with pytest.raises(ValueError, match="uint8"):
        dense_crf(image.astype(np.float32), probabilities, SETTINGS)
