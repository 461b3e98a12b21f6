"""Layers of an image: their pixels, their sizes, and the bytes that they may take."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dcsp.report.layers import LONGEST, Pictures, longest_side
from dcsp.report.palette import class_colours
from tests.report.conftest import pictures

GREY = np.full((40, 60, 3), 200, dtype=np.uint8)


def opened(data: bytes) -> np.ndarray:
    """A file as HWC uint8 RGBA."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


def test_labels_have_the_colours_of_their_classes_over_a_clear_background() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 15, 255
    photo, drawn = Pictures(GREY, {"published": labels}).layers(100_000)
    assert (photo.kind, photo.type, drawn.kind, drawn.type) == ("photo", "webp", "labels", "png")
    pixels = opened(drawn.data)
    assert (pixels[:, :20, 3] == 0).all()
    assert (pixels[:, 20:40] == [*class_colours()[15], 255]).all()
    assert (pixels[:, 40:, :3] == 255).all() and set(np.unique(pixels[:, 40:, 3])) <= {
        *range(1, 255)
    }
    assert np.abs(opened(photo.data)[..., :3].astype(int) - 200).max() <= 3


def test_changed_pixels_have_a_colour_of_no_class() -> None:
    changed = np.zeros((40, 60), bool)
    changed[:, 30:] = True
    pixels = opened(Pictures(GREY, changed=changed).layers(100_000)[1].data)
    assert (pixels[:, :30, 3] == 0).all() and (pixels[:, 30:, 3] == 255).all()
    assert not (class_colours() == pixels[0, 59, :3]).all(axis=1).any()


def test_all_layers_are_of_one_size_whatever_their_sources() -> None:
    layers = pictures().layers(100_000)
    assert {(layer.height, layer.width) for layer in layers} == {(48, 48)}
    assert {opened(layer.data).shape[:2] for layer in layers} == {(48, 48)}


@pytest.mark.parametrize("most", [800, 3_000, 14_000, 160_000])
@pytest.mark.parametrize("shape", [(900, 1200), (1200, 300)])
def test_layers_take_no_more_bytes_than_they_may(most: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    noise = replace(pictures(), image=rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    layers = noise.layers(most)
    assert sum(len(layer.data) for layer in layers) <= most
    assert len(layers) in (0, 9) and (most < 14_000 or layers)
    for layer in layers:
        assert max(layer.height, layer.width) <= min(LONGEST, longest_side(most))


def test_what_can_be_large_is() -> None:
    ramp = np.linspace(0, 255, 1200, dtype=np.uint8)[None, :, None].repeat(900, 0).repeat(3, 2)
    photo, _ = Pictures(ramp, {"published": np.ones((900, 1200), np.uint8)}).layers(160_000)
    assert (photo.height, photo.width) == (480, 640)
