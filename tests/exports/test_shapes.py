"""Outlines have the area of their regions, and others fill them to the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from scipy import ndimage

from dcsp.exports.shapes import centred, outlines


def masks() -> list[NDArray[np.bool_]]:
    """Single pixels, all of an image, noise of every density, and smooth areas with holes."""
    rng = np.random.default_rng(0)
    noise = [rng.random(rng.integers(1, 30, 2)) < rng.random() for _ in range(150)]
    smooth = [ndimage.zoom(mask.astype(np.uint8), 3, order=0) > 0 for mask in noise[:40]]
    rings = [mask ^ ndimage.binary_erosion(mask) for mask in smooth]
    return [np.ones((1, 1), bool), np.ones((3, 7), bool), *noise, *smooth, *rings]


MASKS = [mask for mask in masks() if mask.any()]


def shoelace(points: NDArray[np.float64]) -> float:
    following = np.roll(points, -1, axis=0)
    return float(np.sum(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]) / 2)


def test_each_region_has_an_outline_of_its_area() -> None:
    for mask in MASKS:
        regions, count = ndimage.label(mask)
        areas = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        assert [shoelace(ring[:, :2]) for ring in outlines(mask)] == areas.tolist()


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((4, 5), bool)) == []


def test_pycocotools_fills_outlines_to_the_mask() -> None:
    for mask in MASKS:
        polygons = [ring[:, :2].ravel().tolist() for ring in outlines(mask)]
        filled = coco.decode(coco.merge(coco.frPyObjects(polygons, *mask.shape)))
        assert np.array_equal(filled > 0, mask)


def test_pillow_fills_centred_outlines_to_the_mask() -> None:
    for mask in MASKS:
        canvas = Image.new("1", mask.shape[::-1])
        for ring in outlines(mask):
            corners = [tuple(point) for point in (centred(ring) - 0.5).tolist()]
            ImageDraw.Draw(canvas).polygon(corners, fill=1)
        assert np.array_equal(np.asarray(canvas), mask)


@pytest.mark.parametrize("mask", MASKS[::20], ids=lambda mask: "×".join(map(str, mask.shape)))
def test_centred_outlines_stay_in_the_image(mask: NDArray[np.bool_]) -> None:
    for ring in outlines(mask):
        points = centred(ring)
        assert (points >= 0.5).all() and (points <= np.array(mask.shape[::-1]) - 0.5).all()
