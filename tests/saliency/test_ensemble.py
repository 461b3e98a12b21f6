"""Several detectors as one: the weighted mean of what each says, mirrored or not."""

from __future__ import annotations

import numpy as np
import pytest

from dcsp.config import DetectorSettings, SaliencySettings
from dcsp.images.resize import resize_map, resize_rgb, shrink_map
from dcsp.saliency.ensemble import DetectorEnsemble


class Ramp:
    """Brighter and further to the left is more salient: mirrored images give other maps."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (self.height, self.width, 3) and images.dtype == np.uint8
        left = np.linspace(1, 0, self.width, dtype=np.float32)
        return images.mean(axis=-1, dtype=np.float32) / 255 * left


def photographs(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def test_one_detector_is_itself() -> None:
    images, ramp = photographs(8, 12), Ramp(8, 12)
    ensemble = DetectorEnsemble([ramp], [DetectorSettings(weight=3)])
    assert (ensemble.height, ensemble.width) == (8, 12)
    np.testing.assert_allclose(ensemble(images), ramp(images), atol=1e-6)


def test_maps_are_averaged_by_weight_at_the_largest_size() -> None:
    small, large = Ramp(8, 12), Ramp(16, 24)
    cards = [DetectorSettings(weight=1), DetectorSettings(weight=3)]
    ensemble = DetectorEnsemble([small, large], cards)
    images = photographs(16, 24)
    reduced = np.stack([resize_rgb(image, 8, 12) for image in images])
    expected = (resize_map(small(reduced), 16, 24) + 3 * large(images)) / 4
    assert (ensemble.height, ensemble.width) == (16, 24)
    np.testing.assert_allclose(ensemble(images), expected, atol=1e-6)


def test_a_mirrored_detector_says_the_same_of_the_mirrored_image() -> None:
    images = photographs(8, 12)
    ensemble = DetectorEnsemble([Ramp(8, 12)], [DetectorSettings(mirror=True)])
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    np.testing.assert_allclose(ensemble(mirrored), ensemble(images)[:, :, ::-1], atol=1e-6)
    plain = DetectorEnsemble([Ramp(8, 12)], [DetectorSettings()])
    assert np.abs(ensemble(images) - plain(images)).max() > 0.1


def test_a_shrunk_map_keeps_its_mean_and_its_range() -> None:
    maps = np.random.default_rng(1).random((3, 64, 48), np.float32)
    shrunk = shrink_map(maps, 16)
    assert shrunk.shape == (3, 16, 12) and shrunk.min() >= 0 and shrunk.max() <= 1
    np.testing.assert_allclose(shrunk.mean(axis=(1, 2)), maps.mean(axis=(1, 2)), atol=0.02)
    assert shrink_map(maps, 64) is maps


def test_a_detector_can_be_named_alone() -> None:
    settings = SaliencySettings.model_validate({"detectors": ["u2netp", {"model": "isnet"}]})
    first, second = settings.detectors
    assert first == DetectorSettings() and (second.height, second.width) == (1024, 1024)
    pixel = np.array([0.0, 128.0, 255.0]) / 255
    normalised = (pixel - second.mean[0]) / second.std[0]
    np.testing.assert_allclose(normalised, (np.array([0, 128, 255]) - 128) / 256)
    assert SaliencySettings.model_validate({"detectors": "isnet"}).detectors == (second,)
    assert SaliencySettings.model_validate({"detectors": []}).detectors == ()
    own = SaliencySettings.model_validate({"detectors": {"model": "isnet", "height": 512}})
    assert own.detectors[0].height == 512 and own.detectors[0].width == 1024


@pytest.mark.parametrize("beside", [{"detectors": ["isnet"]}, {"thresholds": [0.5]}])
def test_maps_and_detectors_exclude_one_another(beside: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"leave saliency\.detectors"):
        SaliencySettings.model_validate({"maps": "s1", **beside})
    settings = SaliencySettings.model_validate({"maps": ["s1", "s2"]})
    assert settings.passes == 2
    again = SaliencySettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings
