"""Foreground from activations, its CRF, and how it is shared among tags."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcsp.config import CRFSettings, NetworkSettings
from dcsp.inference.crf import dense_crf
from dcsp.methods.builtin.foreground import (
    foreground_mask,
    fuse_activations,
    multi_class,
    multi_class_labels,
    recentre,
    stage_mean,
)
from dcsp.networks.deeplab import build_network

CRF = CRFSettings()
thresholds = st.floats(0.01, 0.99)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def picture() -> tuple[np.ndarray, np.ndarray]:
    """An image of two objects on a background, and their labels (0, 1, 2)."""
    rows, columns = np.mgrid[:40, :56]
    labels = np.zeros((40, 56), np.uint8)
    labels[(rows - 20) ** 2 + (columns - 14) ** 2 < 100] = 1
    labels[10:30, 34:50] = 2
    colours = np.array([[60, 120, 60], [200, 60, 50], [60, 60, 210]], np.float32)
    noise = np.random.default_rng(0).normal(0, 4, (40, 56, 3))
    return (colours[labels] + noise).clip(0, 255).astype(np.uint8), labels


def blurred(mask: np.ndarray, seed: int) -> np.ndarray:
    """What a map at stride 8 might say of a mask."""
    soft = scipy.ndimage.gaussian_filter(mask.astype(np.float32), 4)
    noisy = soft / soft.max() + scipy.ndimage.gaussian_filter(random(*mask.shape, seed=seed), 3) / 4
    return ((noisy - noisy.min()) / np.ptp(noisy)).astype(np.float32)


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def slow_resize(map_: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with the outermost cells on the outermost pixels, by scipy."""
    rows = np.linspace(0, map_.shape[0] - 1, height)
    columns = np.linspace(0, map_.shape[1] - 1, width)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return scipy.ndimage.map_coordinates(map_.astype(np.float64), grid, order=1)


def slow_unit(map_: np.ndarray) -> np.ndarray:
    return (map_ - map_.min()) / (map_.max() - map_.min())


@pytest.mark.parametrize("sign", ["positive", "absolute", "signed"])
def test_the_foreground_map_is_the_normalised_sum_of_channel_means(sign: Any) -> None:
    fourth, fifth = 10 * random(6, 9, 12), random(8, 5, 7, seed=1)
    change = {"positive": lambda x: x * (x > 0), "absolute": abs, "signed": lambda x: x}[sign]
    means = [change(stage).mean(axis=0) for stage in (fourth, fifth)]
    maps = [slow_resize(slow_unit(mean), 65, 97) for mean in means]
    fused = fuse_activations(fourth, fifth, 65, 97, sign)
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, slow_unit(maps[0] + maps[1]), atol=1e-4)


def test_stages_count_alike_whatever_their_units() -> None:
    fourth, fifth = random(6, 5, 7), random(8, 5, 7, seed=1)
    plain = fuse_activations(fourth, fifth, 33, 49)
    np.testing.assert_allclose(fuse_activations(100 * fourth, fifth, 33, 49), plain, atol=1e-5)


def test_tensors_of_any_kind_do_as_well_as_arrays() -> None:
    fourth, fifth = random(6, 5, 7), random(8, 5, 7, seed=1)
    expected = fuse_activations(fourth, fifth, 33, 49)
    tensors = torch.tensor(fourth, requires_grad=True), torch.tensor(fifth, dtype=torch.float64)
    np.testing.assert_array_equal(fuse_activations(*tensors, 33, 49), expected)
    half = fuse_activations(torch.tensor(fourth).bfloat16(), torch.tensor(fifth).half(), 33, 49)
    np.testing.assert_allclose(half, expected, atol=2e-2)


def test_after_a_relu_the_sign_does_not_matter() -> None:
    features = np.maximum(random(6, 5, 7), 0)
    expected = features.mean(axis=0)
    for sign in ("positive", "absolute", "signed"):
        np.testing.assert_allclose(stage_mean(features, sign), expected, rtol=1e-6)


def test_flat_activations_show_no_foreground() -> None:
    flat = np.full((3, 4, 5), 0.3, np.float32)
    assert not fuse_activations(flat, flat, 20, 30).any()


def test_features_of_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="Khw"):
        fuse_activations(random(1, 3, 4, 5), random(3, 4, 5), 20, 30)


def test_stages_of_a_backbone_lie_on_the_image() -> None:
    """A bright square on black is where activations differ from those of black all over."""
    torch.manual_seed(0)
    settings = NetworkSettings(backbone="resnet18", weights="random", output_stride=8)
    backbone = build_network(settings, ("thing",), None).backbone.eval()
    image = torch.zeros(1, 3, 97, 129)
    image[:, :, 24:56, 72:104] = 3.0
    with torch.inference_mode():
        fourth, fifth = (stage[0] for stage in backbone(image)[3:])
        empty = [stage[0] for stage in backbone(torch.zeros_like(image))[3:]]
    fused = fuse_activations((fourth - empty[0]).abs(), (fifth - empty[1]).abs(), 97, 129)
    rows, columns = np.mgrid[:97, :129]
    weight = fused**4
    centre = (weight * rows).sum() / weight.sum(), (weight * columns).sum() / weight.sum()
    np.testing.assert_allclose(centre, (39.5, 87.5), atol=6)


@given(threshold=thresholds, seed=st.integers(0, 99))
def test_recentring_keeps_order_and_ends_and_puts_the_threshold_in_the_middle(
    threshold: float, seed: int
) -> None:
    values = np.sort(np.append(unit(50, seed=seed), np.float32([0, threshold, 1])))
    moved = recentre(values, threshold)
    assert moved.dtype == np.float32 and moved[0] == 0 and moved[-1] == 1
    assert (np.diff(moved) > -1e-6).all()  # rounding aside
    assert moved[values == np.float32(threshold)] == pytest.approx(0.5, abs=1e-3)


def test_recentring_shifts_log_odds() -> None:
    values = unit(50).astype(np.float64) * 0.98 + 0.01
    odds = np.log(values / (1 - values)) - np.log(0.3 / 0.7)
    moved = recentre(values.astype(np.float32), 0.3)
    np.testing.assert_allclose(moved, 1 / (1 + np.exp(-odds)), rtol=1e-3)
    half = recentre(values.astype(np.float32), 0.5)
    np.testing.assert_allclose(half, values, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, float("nan")])
def test_a_threshold_beyond_the_values_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        recentre(unit(3), threshold)


def test_the_mask_snaps_to_the_image() -> None:
    image, labels = picture()
    rough = blurred(labels > 0, seed=3)
    mask = foreground_mask(image, rough, CRF)
    assert mask.dtype == np.float32 and mask.shape == labels.shape
    assert mask.min() >= 0 and mask.max() <= 1
    assert iou(mask > 0.5, labels > 0) > iou(rough > 0.3, labels > 0) + 0.05
    assert iou(mask > 0.5, labels > 0) > 0.95


def test_a_crf_that_does_nothing_leaves_the_threshold() -> None:
    image, labels = picture()
    rough = blurred(labels > 0, seed=3)
    idle = CRFSettings(iterations=1, gaussian_compat=0, bilateral_compat=0)
    for threshold in (0.2, 0.3, 0.6):
        mask = foreground_mask(image, rough, idle, threshold)
        np.testing.assert_array_equal(mask > 0.5, rough > threshold)
        np.testing.assert_allclose(mask, recentre(rough, threshold), atol=1e-5)


def slow_multi_class(
    localisation: np.ndarray, foreground: np.ndarray, threshold: float, exponent: float
) -> np.ndarray:
    """Pixel by pixel, from odds in double precision."""
    result = np.zeros((1 + len(localisation), *foreground.shape))
    for y, x in np.ndindex(foreground.shape):
        maps = localisation[:, y, x].astype(float)
        joint = (maps.max() * float(foreground[y, x])) ** 0.5
        odds = joint / (1 - joint) * (1 - threshold) / threshold
        result[0, y, x] = 1 / (1 + odds)
        result[1:, y, x] = odds / (1 + odds) * maps**exponent / (maps**exponent).sum()
    return result


@given(
    count=st.integers(1, 4),
    threshold=thresholds,
    exponent=st.floats(0.5, 4),
    seed=st.integers(0, 99),
)
def test_multi_class_is_its_slow_reading(
    count: int, threshold: float, exponent: float, seed: int
) -> None:
    localisation, foreground = unit(count, 4, 5, seed=seed), unit(4, 5, seed=seed + 100)
    tags = list(range(1, count + 1))
    found = multi_class(localisation, foreground, tags, threshold, exponent)
    expected = slow_multi_class(localisation, foreground, threshold, exponent)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_neither_prior_nor_localisation_makes_an_object_alone() -> None:
    ones, zeros = np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    assert (multi_class(ones, zeros[0], [7])[0] == 1).all()
    assert (multi_class(zeros, ones[0], [7])[0] == 1).all()
    assert (multi_class(ones, ones[0], [7])[1] == 1).all()


def test_the_strongest_map_names_the_object_and_the_threshold_its_size() -> None:
    localisation, foreground = unit(3, 30, 40), unit(30, 40, seed=1)
    sizes = []
    for threshold in (0.2, 0.4, 0.6):
        found = multi_class(localisation, foreground, [2, 5, 9], threshold)
        np.testing.assert_array_equal(found[1:].argmax(axis=0), localisation.argmax(axis=0))
        inside = found[0] < 0.5
        joint = np.sqrt(localisation.max(axis=0) * foreground)
        np.testing.assert_array_equal(inside, joint > threshold)
        sizes.append(inside.sum())
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_tiny_maps_still_give_probabilities() -> None:
    localisation = np.full((2, 3, 3), 1e-30, np.float32)
    localisation[1] *= 2
    found = multi_class(localisation, np.ones((3, 3), np.float32), [1, 2])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=0), 1)


def test_without_tags_all_is_background() -> None:
    image, labels = picture()
    nothing = np.zeros((0, *labels.shape), np.float32)
    probabilities = multi_class(nothing, unit(*labels.shape), [])
    assert probabilities.shape == (1, *labels.shape) and (probabilities == 1).all()
    found = multi_class_labels(image, probabilities, [], CRF)
    assert found.dtype == np.uint8 and found.shape == labels.shape and not found.any()


def test_maps_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        multi_class(unit(2, 4, 5), unit(4, 5), [1])
    with pytest.raises(ValueError, match="do not fit"):
        multi_class(unit(1, 4, 5), unit(5, 4), [1])


def test_labels_are_the_winners_after_the_crf() -> None:
    image, labels = picture()
    localisation = np.stack([blurred(labels == c, seed=c) for c in (1, 2)])
    probabilities = multi_class(localisation, blurred(labels > 0, seed=3), [4, 9])
    found = multi_class_labels(image, probabilities, [4, 9], CRF)
    winners = dense_crf(image, probabilities, CRF).argmax(axis=0)
    np.testing.assert_array_equal(found, np.array([0, 4, 9], np.uint8)[winners])
    assert found.dtype == np.uint8
    for label, tag in ((1, 4), (2, 9)):
        before = iou(probabilities.argmax(axis=0) == label, labels == label)
        assert iou(found == tag, labels == label) > max(0.85, before)


def test_the_prior_cuts_what_attention_alone_spills_over() -> None:
    image, labels = picture()
    localisation = np.stack([blurred(labels == c, seed=c) for c in (1, 2)])
    truth = labels > 0
    mask = foreground_mask(image, blurred(truth, seed=3), CRF)
    spilled = localisation.max(axis=0) > 0.35
    found = multi_class(localisation, mask, [4, 9])[0] < 0.5
    assert iou(found, truth) > iou(spilled, truth) + 0.05
