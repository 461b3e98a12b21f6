"""Predictions: the paper's inference step by step, at the image's own size, with honest areas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dcsp.config import PredictSettings
from dcsp.inference.crf import dense_crf
from dcsp.inference.multiscale import Views
from dcsp.inference.prediction import Prediction, predict_labels
from dcsp.inference.scores import softmax

PLAIN = PredictSettings(crf=False)
WITH_CRF = PredictSettings()


def example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image with a red square, and coarse scores of 5 classes that mostly see class 3 in it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(40, 60, (48, 64, 3)).astype(np.uint8)
    image[12:36, 20:44] = (200, 50, 40)
    scores = rng.normal(0, 0.5, (6, 12, 16)).astype(np.float32)
    scores[0] += 5
    scores[3, 3:9, 5:11] += 10
    return image, scores


def upsampled_softmax(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    full = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], (height, width), mode="bilinear", align_corners=True
    )
    return full[0].softmax(dim=0).numpy()


def labelled(
    image: np.ndarray, scores: np.ndarray, settings: PredictSettings, max_side: int | None = None
) -> Prediction:
    return predict_labels(scores, *image.shape[:2], settings, lambda: image, max_side)


def test_without_crf_it_is_the_argmax_of_the_upsampled_scores() -> None:
    image, scores = example()
    prediction = labelled(image, scores, PLAIN)
    expected = upsampled_softmax(scores, 48, 64).argmax(axis=0)
    assert prediction.label.dtype == np.uint8
    np.testing.assert_array_equal(prediction.label, expected)
    np.testing.assert_array_equal(prediction.label_without_crf, expected)


def test_a_cell_labels_the_pixel_it_is_centred_on() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 7, 9)).astype(np.float32)
    label = labelled(np.zeros((49, 65, 3), np.uint8), scores, PLAIN).label
    np.testing.assert_array_equal(label[::8, ::8], scores.argmax(axis=0))


def test_with_crf_it_is_the_argmax_of_the_crf_over_all_classes() -> None:
    image, scores = example()
    prediction = labelled(image, scores, WITH_CRF)
    probabilities = upsampled_softmax(scores, 48, 64)
    full = dense_crf(image, probabilities, WITH_CRF.crf_settings).argmax(axis=0)
    assert (prediction.label == full).mean() > 0.999
    np.testing.assert_array_equal(prediction.label_without_crf, probabilities.argmax(axis=0))
    square = np.zeros((48, 64), bool)
    square[12:36, 20:44] = True
    assert ((prediction.label == 3) == square).mean() > 0.99


@pytest.mark.parametrize("settings", [PLAIN, WITH_CRF])
def test_areas_say_how_much_of_each_class_and_how_surely(settings: PredictSettings) -> None:
    image, scores = example()
    prediction = labelled(image, scores, settings)
    probabilities = upsampled_softmax(scores, 48, 64)
    assert [area["class"] for area in prediction.areas] == np.unique(prediction.label).tolist()
    assert sum(area["pixels"] for area in prediction.areas) == 48 * 64
    for area in prediction.areas:
        inside = prediction.label == area["class"]
        assert area["pixels"] == inside.sum()
        expected = probabilities[area["class"]][inside].mean()
        assert area["confidence"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("settings", [PLAIN, WITH_CRF])
def test_large_images_are_labelled_small_and_come_back_at_their_size(
    settings: PredictSettings,
) -> None:
    image, scores = example()
    large = image.repeat(3, axis=0).repeat(3, axis=1)
    prediction = labelled(large, scores, settings, max_side=64)
    small = labelled(image, scores, settings)
    assert prediction.label.shape == (144, 192)
    same = prediction.label[1::3, 1::3] == small.label
    assert same.mean() > (0.99 if settings.crf else 0.9999)
    assert sum(area["pixels"] for area in prediction.areas) == 144 * 192
    assert prediction.label_without_crf.shape == (144, 192)


def test_an_image_of_background_alone() -> None:
    image, scores = example()
    scores[0] += 50
    prediction = labelled(image, scores, WITH_CRF)
    assert not prediction.label.any()
    assert [area["class"] for area in prediction.areas] == [0]


def test_the_papers_views_are_the_default() -> None:
    views = Views.of(PredictSettings())
    assert (views.output, views.scales, views.flip) == ("scores", (1.0, 0.75, 0.5), False)
    assert (views.fuse, views.relu) == ("max", False)
    settings = PredictSettings(scales=(1, 1.25), flip=True, fuse="mean")
    assert Views.of(settings) == Views("probabilities", (1.0, 1.25), True, "mean")


def test_probabilities_of_views_are_taken_as_they_are() -> None:
    image, scores = example()
    shares = softmax(scores)
    plain = labelled(image, scores, PLAIN)
    fused = labelled(image, shares, PredictSettings(crf=False, fuse="mean"))
    assert (fused.label == plain.label).mean() > 0.98  # they differ where maps are interpolated
    for area, other in zip(fused.areas, plain.areas, strict=True):
        assert area["confidence"] == pytest.approx(other["confidence"], abs=0.05)
