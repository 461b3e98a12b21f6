"""Colours of classes: distinct for people, by another measure than the one they were chosen by."""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from dcsp.labels import voc_palette
from dcsp.report.palette import class_colours


def least_difference(colours: np.ndarray) -> float:
    """Of any two of some colours (n, 3) uint8, by CIEDE2000."""
    lab = rgb2lab(colours[None] / 255)[0]
    return float(deltaE_ciede2000(lab[:, None], lab[None])[~np.eye(len(lab), dtype=bool)].min())


def test_classes_are_told_apart_twice_as_well_as_by_the_voc_palette() -> None:
    for classes in (12, 20, 80):
        ours, voc = (p[1 : classes + 1] for p in (class_colours(), voc_palette()))
        assert least_difference(ours) > 2 * least_difference(voc)
    assert least_difference(class_colours()[1:21]) > 10


def test_six_classes_have_colours_with_names_of_their_own() -> None:
    names = ("magenta", "green", "red", "blue", "dark green", "yellow")
    known = ((255, 0, 255), (0, 255, 0), (255, 0, 0), (0, 90, 255), (0, 128, 0), (255, 230, 0))
    ours, lab = (rgb2lab(np.array([c], np.uint8) / 255)[0] for c in (class_colours()[1:7], known))
    nearest = deltaE_ciede2000(ours[:, None], lab[None]).argmin(axis=1)
    assert [names[place] for place in nearest] == list(names)
    assert least_difference(class_colours()[1:7]) > 20


def test_no_colour_is_there_twice_or_a_grey() -> None:
    colours = class_colours()
    assert len(np.unique(colours, axis=0)) == 256
    assert colours[0].tolist() == [0, 0, 0] and colours[255].tolist() == [255, 255, 255]
    assert np.ptp(colours[1:255].astype(int), axis=1).min() > 30
