"""Generated scenes: exact masks, the same pixels for one seed, no background bound to a class."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.config import CorpusSettings, SceneSettings
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import listing_digest
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.scenes import ScenesSource, render_scene, scene_classes
from dcsp.errors import ConfigError, ImageError
from dcsp.labels import SCENE_CLASSES, TagMapper
from dcsp.tables.codecs import decode_labels

SMALL = SceneSettings(train=6, val=3, height=64, width=80)


@settings(max_examples=25)
@given(
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    st.integers(48, 130),
    st.integers(48, 130),
    st.integers(1, 6),
)
def test_tags_are_exactly_the_classes_in_the_mask(
    seed: int, index: int, height: int, width: int, most: int
) -> None:
    scene = render_scene(seed, index, height, width, most)
    assert (scene.image.dtype, scene.image.shape) == (np.uint8, (height, width, 3))
    assert (scene.mask.dtype, scene.mask.shape) == (np.uint8, (height, width))
    assert scene.classes == scene_classes(seed, index, most)
    assert tuple(np.unique(scene.mask)[1:].tolist()) == scene.classes
    assert scene.mask.min() == 0
    assert 1 <= len(scene.classes) <= most


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    first, again, other_index, other_seed = (
        render_scene(seed, index, 64, 80) for seed, index in ((3, 5), (3, 5), (3, 6), (4, 5))
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other_index.image).any()
    assert (first.image != other_seed.image).any()


def test_classes_are_balanced_and_scenes_hold_one_to_three() -> None:
    listed = [scene_classes(0, index) for index in range(600)]
    counts = Counter(class_id for ids in listed for class_id in ids)
    assert set(counts) == set(range(1, 7))
    assert min(counts.values()) > 0.75 * max(counts.values())
    assert set(map(len, listed)) == {1, 2, 3}


def test_objects_differ_from_what_is_behind_them_and_are_of_many_sizes() -> None:
    shares, contrasts = [], []
    for index in range(20):
        scene = render_scene(1, index, 96, 128)
        inside = scene.mask > 0
        shares.append(inside.mean())
        image = scene.image.astype(float)
        contrasts.append(np.abs(image[inside].mean(0) - image[~inside].mean(0)).max())
    assert 0.02 < min(shares) < max(shares) < 0.6
    assert np.median(contrasts) > 15


def test_the_source_lists_and_reads_both_splits() -> None:
    corpus_settings = CorpusSettings(kind="scenes", classes=SCENE_CLASSES, scenes=SMALL)
    source = pickle.loads(pickle.dumps(open_source(corpus_settings, seed=7)))
    rows = source.list_rows().rows
    assert Counter(row.split for row in rows) == {"train": 6, "val": 3}
    assert len({row.uri for row in rows}) == 9
    corpus, truth, rejected = read_rows(source, rows, TagMapper(SCENE_CLASSES), corpus_settings)
    assert rejected.num_rows == 0
    assert set(corpus["height"].to_pylist()) == {64}
    for tags, label in zip(corpus["tags"].to_pylist(), truth["label"].to_pylist(), strict=True):
        assert np.unique(decode_labels(label)).tolist() == [0, *tags]
    assert listing_digest(rows) == listing_digest(source.list_rows().rows)
    other = ScenesSource(SMALL, SCENE_CLASSES, 8, ("train", "val"))
    assert listing_digest(other.list_rows().rows) != listing_digest(rows)
    with pytest.raises(ImageError, match="no scene of the seed 8"):
        other.read(rows[0])


def test_a_larger_corpus_keeps_the_scenes_of_a_smaller_one() -> None:
    larger = SMALL.model_copy(update={"train": 9, "val": 5})
    small, large = (
        set(ScenesSource(s, SCENE_CLASSES, 0, ("train", "val")).list_rows().rows)
        for s in (SMALL, larger)
    )
    assert small < large


def test_masks_follow_the_order_of_the_configured_classes() -> None:
    turned = ("tree", *SCENE_CLASSES[::-1])
    straight, other = (
        ScenesSource(SMALL, classes, 0, ("train",)) for classes in (SCENE_CLASSES, turned)
    )
    row = straight.list_rows().rows[0]
    mask, again = straight.read_mask(row), other.read_mask(row)
    assert mask is not None
    assert again is not None
    order = np.array([0, 7, 6, 5, 4, 3, 2])
    np.testing.assert_array_equal(order[decode_labels(mask)], decode_labels(again))
    with pytest.raises(ConfigError, match="lacks"):
        ScenesSource(SMALL, ("cat",), 0, ("train",))
