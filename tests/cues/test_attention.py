"""Attention: the tagged classes' maps, in tag order, each from 0 to 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import softmax

from dcsp.config import AttentionSettings
from dcsp.cues.attention import (
    attention_views,
    normalize_attention,
    select_tags,
    tag_attention,
)

values = st.floats(-1000, 1000, width=32)
stacks = arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=8), elements=values)


@given(stacks)
def test_each_map_spans_the_unit_interval_in_the_same_order(maps: np.ndarray) -> None:
    result = normalize_attention(maps)
    assert result.dtype == np.float32 and result.shape == maps.shape
    for before, after in zip(maps, result, strict=True):
        assert after.min() == 0
        assert after.max() == (1 if before.max() > before.min() else 0)
        order = np.argsort(before, axis=None)
        assert (np.diff(after.ravel()[order]) >= 0).all()


@given(stacks)
def test_normalising_twice_changes_nothing(maps: np.ndarray) -> None:
    once = normalize_attention(maps)
    np.testing.assert_array_equal(normalize_attention(once), once)


def test_no_maps_stay_no_maps() -> None:
    assert normalize_attention(np.zeros((0, 4, 5), np.float32)).shape == (0, 4, 5)


def test_the_attention_volume_has_no_background_and_the_scores_have() -> None:
    volume = np.arange(4, dtype=np.float32).reshape(4, 1, 1)  # classes 1…4
    assert select_tags(volume, [1, 4], "fcan").ravel().tolist() == [0, 3]
    scores = np.arange(5, dtype=np.float32).reshape(5, 1, 1)  # background, classes 1…4
    assert select_tags(scores, [1, 4], "scores").ravel().tolist() == [1, 4]
    assert select_tags(scores, [], "scores").shape == (0, 1, 1)


def test_attention_of_the_fcan_is_normalised_map_by_map() -> None:
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    found = tag_attention(volume, [2, 4], AttentionSettings())
    np.testing.assert_array_equal(found, normalize_attention(volume[[1, 3]]))


@given(arrays(np.float32, (5, 3, 4), elements=st.floats(-20, 20, width=32)))
def test_probabilities_are_those_of_a_softmax_over_background_and_tags(scores: np.ndarray) -> None:
    tags = [1, 4]
    settings = AttentionSettings(source="probabilities")
    found = tag_attention(softmax(scores, axis=0), tags, settings)
    np.testing.assert_allclose(found, softmax(scores[[0, *tags]], axis=0)[1:], atol=1e-5)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1


def test_no_tags_have_no_attention() -> None:
    maps = np.full((5, 3, 4), 0.2, np.float32)
    for source, channels in (("fcan", maps[1:]), ("probabilities", maps)):
        settings = AttentionSettings.model_validate({"source": source})
        assert tag_attention(channels, [], settings).shape == (0, 3, 4)


@pytest.mark.parametrize("tags", [[0], [5], [1, 255], [-1]])
def test_a_tag_without_a_map_is_refused(tags: list[int]) -> None:
    with pytest.raises(ValueError, match="4 classes"):
        select_tags(np.zeros((4, 2, 2), np.float32), tags, "fcan")
    with pytest.raises(ValueError, match="4 classes"):
        select_tags(np.zeros((5, 2, 2), np.float32), tags, "scores")


def test_the_papers_views_are_the_default() -> None:
    views = attention_views(AttentionSettings())
    assert (views.output, views.scales, views.flip) == ("attention", (1.0, 0.75, 0.5), False)
    assert (views.fuse, views.relu) == ("max", False)
    assert attention_views(AttentionSettings(source="probabilities")).output == "probabilities"
