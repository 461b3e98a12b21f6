"""Signals of a label: what they say, that they are in [0, 1], and which way they go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torchmetrics.functional.segmentation import mean_iou

from dcsp.trust.signals import SIGNALS, Seen, Signals, measure, overlaps

Labels = NDArray[np.uint8]
LABELS = st.sampled_from([0, 1, 2, 3, 255])
IMAGES = arrays(np.uint8, (12, 14), elements=LABELS)
MAPS = arrays(np.float32, (12, 14), elements=st.floats(0, 1, width=32))


def box(top: int = 2, left: int = 2, bottom: int = 8, right: int = 9, class_id: int = 1) -> Labels:
    found = np.zeros((12, 14), np.uint8)
    found[top:bottom, left:right] = class_id
    return found


def seen(label: Labels, **changes: object) -> Seen:
    """An image of which everything says the same as its label."""
    bright = (label > 0).astype(np.float32)
    sure = {int(id_): 0.9 for id_ in np.unique(label)}
    whole = Seen((1,), label, label, sure, label, bright)
    return replace(whole, **changes)


def signal(found: Signals, name: str, class_id: int = 1) -> float:
    row = found.classes.index(class_id)
    return float(found.values[row, list(SIGNALS).index(name)])


@given(IMAGES, IMAGES, IMAGES, MAPS, st.sets(st.integers(1, 4)))
def test_every_signal_is_in_its_range_or_unknown(
    label: Labels,
    network: Labels,
    cue: Labels,
    saliency: NDArray[np.float32],
    tags: set[int],
) -> None:
    found = measure(Seen(sorted(tags), label, network, {1: 0.5, 2: 1.0}, cue, saliency))
    shown = set(np.unique(label).tolist()) - {0, 255}
    assert found.classes == tuple(sorted(shown | tags))
    assert found.pixels == tuple(int((label == id_).sum()) for id_ in found.classes)
    known = found.values[~np.isnan(found.values)]
    assert ((known >= 0) & (known <= 1 + 1e-6)).all()
    without = [row for row, n in zip(found.values, found.pixels, strict=True) if n == 0]
    assert np.isnan(without).all()


@given(IMAGES, IMAGES)
def test_overlaps_are_those_of_torchmetrics(label: Labels, other: Labels) -> None:
    label, other = label % 255 % 4, other % 255 % 4  # without pixels that nothing is said of
    found = overlaps(label, other, [1, 2, 3])
    expected = mean_iou(
        torch.tensor(label[None].astype(np.int64)),
        torch.tensor(other[None].astype(np.int64)),
        num_classes=4,
        per_class=True,
        input_format="index",
    )[0, 1:]
    held = ~np.isnan(found)
    assert held.tolist() == [bool(((label == c) | (other == c)).any()) for c in (1, 2, 3)]
    assert found[held] == pytest.approx(expected.numpy()[held])


def test_pixels_without_a_second_opinion_do_not_count() -> None:
    label, other = box(), box()
    other[2:5] = 255
    assert overlaps(label, other, [1]) == pytest.approx([1.0])


def test_a_label_that_all_agree_on_has_high_signals() -> None:
    found = measure(seen(box()))
    low = {name for name in SIGNALS if signal(found, name) < 0.9}
    assert low == set()


@pytest.mark.parametrize(
    ("name", "worse"),
    {
        "confidence": seen(box(), confidences={0: 0.9, 1: 0.2}),
        "network": seen(box(), network=box(left=7)),
        "cue": seen(box(), cue=box(left=7)),
        "salient": seen(box(), saliency=np.full((12, 14), 0.1, np.float32)),
        "contrast": seen(box(), saliency=np.ones((12, 14), np.float32)),
        "covered": seen(box(), saliency=np.ones((12, 14), np.float32)),
        "decided": seen(box(), saliency=np.full((12, 14), 0.5, np.float32)),
        "alone": seen(box(), tags=(1, 2, 3)),
    }.items(),
)
def test_each_signal_falls_where_it_should(name: str, worse: Seen) -> None:
    assert signal(measure(worse), name) < signal(measure(seen(box())), name)


def test_what_is_not_there_is_unknown() -> None:
    found = measure(seen(box(), cue=None, saliency=None, tags=()))
    unknown = {name for name in SIGNALS if np.isnan(signal(found, name))}
    assert unknown == {"cue", "salient", "contrast", "decided", "covered"}


def test_an_image_without_classes_has_no_signals() -> None:
    found = measure(seen(np.zeros((12, 14), np.uint8), tags=()))
    assert found.classes == () and found.values.shape == (0, len(SIGNALS))
