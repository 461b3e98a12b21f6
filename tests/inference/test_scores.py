"""Softmax and the winner at every pixel, against numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dcsp.images.resize import resize_map
from dcsp.inference import scores
from dcsp.inference.scores import (
    probabilities,
    softmax,
    to_half,
    upsampled_winners,
    winning_label,
)

stacks = arrays(
    np.float32,
    array_shapes(min_dims=3, max_dims=3, max_side=7),
    elements=st.integers(-3, 3).map(float),  # few values, so that there are ties
)


@given(stacks)
def test_the_winner_is_numpys_argmax_with_ids(maps: np.ndarray) -> None:
    ids = np.arange(len(maps)) * 3 + 1
    before = maps.copy()
    labels, best = winning_label(maps, ids.tolist())
    assert labels.dtype == np.uint8 and best.dtype == np.float32
    np.testing.assert_array_equal(labels, ids[maps.argmax(axis=0)])
    np.testing.assert_array_equal(best, maps.max(axis=0))
    np.testing.assert_array_equal(maps, before)


def test_maps_without_ids_are_refused() -> None:
    for maps, ids in [
        (np.zeros((2, 3, 3)), [1]),
        (np.zeros((0, 3, 3)), []),
        (np.zeros((3, 3)), [1]),
    ]:
        with pytest.raises(ValueError, match="labels do not name"):
            winning_label(maps.astype(np.float32), ids)


@given(stacks, st.floats(-1e4, 1e4, width=32))
def test_softmax_is_torchs_and_never_overflows(maps: np.ndarray, shift: float) -> None:
    logits = maps * 40 + np.float32(shift)
    expected = torch.from_numpy(logits).softmax(dim=0).numpy()
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)


@given(stacks)
def test_shares_of_some_labels_sum_to_one_at_every_pixel(maps: np.ndarray) -> None:
    shares = softmax(maps)[:2]
    found = probabilities(shares, "mean")
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    # A share of 1e-6 is added to each: it shows where all labels asked for had about 5e-4.
    np.testing.assert_allclose(found, shares / shares.sum(axis=0), atol=2e-3)
    nothing = np.zeros_like(shares)
    np.testing.assert_allclose(probabilities(nothing, "mean"), 1 / len(shares))
    np.testing.assert_array_equal(probabilities(maps, "max"), softmax(maps))


@pytest.mark.parametrize("fuse", ["max", "mean"])
@pytest.mark.parametrize("block", [1, 50, 2**19])
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    size=st.tuples(*[st.integers(1, 20)] * 2),
    seed=st.integers(0, 99),
)
def test_winners_a_few_rows_at_a_time_are_those_of_the_whole_maps(
    fuse: str, block: int, shape: tuple[int, int, int], size: tuple[int, int], seed: int
) -> None:
    maps = np.random.default_rng(seed).random(shape, np.float32)
    full = probabilities(resize_map(maps, *size, corners=True), fuse)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_BLOCK", block)
        labels, shares = upsampled_winners(maps, *size, fuse)  # type: ignore[arg-type]
    assert labels.shape == shares.shape == size
    np.testing.assert_allclose(shares, full.max(axis=0), atol=1e-5)
    chosen = np.take_along_axis(full, labels[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, full.max(axis=0), atol=1e-5)


def test_scores_beyond_sixteen_bits_travel_as_the_largest() -> None:
    found = to_half(np.array([[[1e9, -1e9, 0.5]]], np.float32))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, [[[65504, -65504, 0.5]]])
