"""Pictures of pages."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dcsp.report.palette import class_colours
from dcsp.report.panels import (
    SIDE,
    data_url,
    heat,
    overlay_attention,
    overlay_labels,
    shrink,
)

GREY = np.full((40, 60, 3), 200, dtype=np.uint8)


def test_large_images_shrink_and_small_ones_stay() -> None:
    assert shrink(np.zeros((1000, 500, 3), np.uint8)).shape == (SIDE, SIDE // 2, 3)
    assert shrink(GREY) is GREY


def test_heat_grows_lighter_with_the_value() -> None:
    ramp = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(4, axis=0)
    light = heat(ramp, 4, 60).astype(int).sum(axis=-1)[0]
    assert (np.diff(light) >= 0).all() and light[0] < 60 < 600 < light[-1]


def test_labels_are_painted_in_class_colours_with_outlines() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 15
    picture = overlay_labels(GREY, labels)
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    assert (picture[:, 30] == 250).all()
    expected = 0.72 * class_colours()[15] + 0.28 * 200
    assert picture[20, 50] == pytest.approx(expected, abs=1)
    assert np.ptp(picture[20, 10]) == 0 and picture[20, 10, 0] < 120


def test_ignored_regions_are_striped() -> None:
    picture = overlay_labels(GREY, np.full((40, 60), 255, np.uint8))
    assert len(np.unique(picture)) == 2


def test_labels_of_another_size_fit_the_image() -> None:
    assert overlay_labels(GREY, np.ones((400, 600), np.uint8)).shape == GREY.shape


def test_the_strongest_attention_gives_the_colour() -> None:
    attention = np.zeros((2, 4, 6), np.float32)
    attention[0, :, :2] = 1.0
    attention[1, :, 4:] = 1.0
    picture = overlay_attention(GREY, attention, [9, 15]).astype(int)
    chair, person = class_colours()[9].astype(int), class_colours()[15].astype(int)
    assert np.abs(picture[20, 0] - chair).sum() < np.abs(picture[20, 0] - person).sum()
    assert np.abs(picture[20, 59] - person).sum() < np.abs(picture[20, 59] - chair).sum()
    assert np.ptp(overlay_attention(GREY, attention[:0], [])[0, 0]) == 0


def test_a_data_url_holds_the_picture() -> None:
    kind, _, encoded = data_url(GREY).partition(";base64,")
    assert kind == "data:image/webp"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        assert image.size == (60, 40)
        assert np.abs(np.asarray(image).astype(int) - 200).max() <= 3
