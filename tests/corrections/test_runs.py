"""Run lengths: written and read back, and as the tools' own libraries have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools import mask as coco

from dcsp.corrections.runs import from_brush, from_coco_text, from_runs, to_brush, to_runs

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
def test_runs_are_the_mask(mask: NDArray[np.bool_]) -> None:
    flat = mask.ravel()
    runs = to_runs(flat)
    assert from_runs(runs, flat.size).tolist() == flat.tolist()
    assert all(run > 0 for run in runs[1:]) and (runs[0] == 0) == flat[0]


@given(MASKS)
def test_a_brush_is_the_mask(mask: NDArray[np.bool_]) -> None:
    data = to_brush(mask)
    assert all(0 <= byte < 256 for byte in data)
    assert from_brush(data, mask.size).tolist() == mask.ravel().tolist()


def test_a_brush_of_more_pixels_than_a_run_can_count() -> None:
    mask = np.zeros((300, 300), bool)
    mask[150:, 7:] = True
    assert (from_brush(to_brush(mask), mask.size) == mask.ravel()).all()


@given(MASKS)
def test_coco_writes_the_same_runs_as_text(mask: NDArray[np.bool_]) -> None:
    told = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    runs = from_coco_text(told)
    assert (from_runs(runs, mask.size).reshape(mask.shape, order="F") == mask).all()


@pytest.mark.parametrize("runs", [[3], [1, -1, 4], [5], [[1, 3]], [*[2**62] * 4, 4]])
def test_runs_of_other_pixels_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="not of 4 pixels"):
        from_runs(runs, 4)


@given(MASKS, st.data())
def test_a_brush_that_was_cut_off_is_refused(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    whole = to_brush(mask)
    cut = whole[: data.draw(st.integers(0, len(whole) - 2))]
    with pytest.raises(ValueError, match="a brush"):
        from_brush(cut, mask.size)


def test_coco_text_that_was_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        from_coco_text("4o")


@pytest.mark.parametrize("digits", [14, 1_000_000])
def test_a_number_in_coco_text_has_64_bits_at_most(digits: int) -> None:
    with pytest.raises(ValueError, match="more than 64 bits"):
        from_coco_text("P" * (digits - 1) + "0")
    assert from_coco_text("P" * 12 + "0") == [0]
