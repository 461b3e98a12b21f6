"""Augmentation: against Pillow's resize of the whole image, and the geometry maps must share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from dcsp.config import TrainSettings
from dcsp.images.decode import decode_rgb
from dcsp.tables.codecs import encode_labels, encode_map
from dcsp.training.augment import (
    PADDING,
    Sample,
    Window,
    cut,
    draw_window,
    make_samples,
    sample_rng,
)
from tests.photographs import JPEGS, needs_photographs

PLAIN = TrainSettings(crop=32, scale=(1.0, 1.0), flip=False)
COLOR = (1.0, 1.0, 1.0)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def augment(
    image: NDArray[np.uint8],
    cue: NDArray[np.uint8] | None,
    saliency: NDArray[np.float32] | None,
    chosen: TrainSettings,
    rng: np.random.Generator,
    max_side: int | None = None,
) -> Sample:
    """One random crop, as :func:`make_samples` takes it of a row."""
    window = draw_window(image.shape[0], image.shape[1], chosen, rng, max_side)
    return cut(image, cue, saliency, window, chosen.crop)


def table(*images: NDArray[np.uint8], **columns: Any) -> pa.Table:
    return pa.table(
        {
            "image_id": [f"image{i}" for i in range(len(images))],
            "height": [image.shape[0] for image in images],
            "width": [image.shape[1] for image in images],
            "bytes": [jpeg(image) for image in images],
            "tags": [[1, 3] for _ in images],
            **columns,
        }
    )


@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    scale=st.floats(0.3, 2.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_a_crop_is_a_part_of_the_whole_image_resized(
    size: tuple[int, int], scale: float, seed: int
) -> None:
    image = noise(*size, seed=seed)
    chosen = TrainSettings(crop=32, scale=(scale, scale), flip=False)
    sample = augment(image, None, None, chosen, np.random.default_rng(seed))
    height, width = (max(1, round(side * scale)) for side in size)
    whole = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    top, left, bottom, right = sample.valid
    shown = sample.image[top:bottom, left:right].astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(whole, shown.shape)[..., 0, :, :, :]
    assert np.abs(windows.astype(int) - shown).max(axis=(-3, -2, -1)).min() <= 3  # box in float32


def test_outside_the_image_is_the_mean_colour_ignored_and_not_salient() -> None:
    image, cue = noise(10, 20), np.full((10, 20), 7, np.uint8)
    sample = augment(image, cue, np.ones((10, 20), np.float32), PLAIN, np.random.default_rng(0))
    assert sample.cue is not None and sample.saliency is not None
    top, left, bottom, right = sample.valid
    assert (bottom - top, right - left) == (10, 20)
    outside = np.ones((32, 32), bool)
    outside[top:bottom, left:right] = False
    assert (sample.image[outside] == PADDING).all()
    assert (sample.image[top:bottom, left:right] == image).all()
    assert ((sample.cue == 255) == outside).all()
    assert (sample.saliency == np.where(outside, 0, 255)).all()


@pytest.mark.parametrize("flip", [False, True])
def test_image_cue_and_saliency_stay_aligned(flip: bool) -> None:
    yy, xx = np.mgrid[:80, :120]
    disc = (yy - 40) ** 2 + (xx - 70) ** 2 < 25**2
    image = np.where(disc[..., None], 250, 5).astype(np.uint8).repeat(3, axis=2)
    small = np.asarray(Image.fromarray(disc).convert("L").resize((60, 60), 2)) / np.float32(255)
    window = Window((160, 240), (30, 50), (128, 128), (0, 0), flip, COLOR)
    sample = cut(image, disc.astype(np.uint8), small.astype(np.float32), window, 128)
    assert sample.cue is not None and sample.saliency is not None
    assert 0.1 < sample.cue.mean() < 0.9
    assert np.mean((sample.image[..., 0] > 127) != (sample.cue == 1)) < 0.01
    assert np.mean((sample.saliency > 127) != (sample.cue == 1)) < 0.02


def test_a_flip_mirrors_everything_and_the_box() -> None:
    image, cue = noise(16, 16), np.random.default_rng(0).integers(0, 5, (16, 16), np.uint8)
    saliency = np.random.default_rng(1).random((16, 16), np.float32)
    plain, mirrored = (
        cut(image, cue, saliency, Window((16, 16), (0, 0), (16, 16), (3, 5), f, COLOR), 32)
        for f in (False, True)
    )
    for name in ("image", "cue", "saliency"):
        assert np.array_equal(getattr(plain, name)[:, ::-1], getattr(mirrored, name))
    assert plain.valid.tolist() == [3, 5, 19, 21]
    assert mirrored.valid.tolist() == [3, 11, 19, 27]


def test_cues_keep_their_ids_at_every_scale() -> None:
    cue = np.random.default_rng(0).choice(np.array([0, 4, 20, 255], np.uint8), (50, 70))
    for seed in range(20):
        wide = TrainSettings(crop=48, scale=(0.4, 1.8))
        sample = augment(noise(50, 70), cue, None, wide, np.random.default_rng(seed))
        assert sample.cue is not None
        assert set(np.unique(sample.cue)) <= {0, 4, 20, 255}


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=st.tuples(st.floats(0.05, 1.0), st.floats(1.0, 3.0)),
    max_side=st.none() | st.integers(8, 64),
    seed=st.integers(0, 9),
)
@settings(max_examples=80)
def test_images_of_any_size_give_a_crop_of_the_set_size(
    size: tuple[int, int], scale: tuple[float, float], max_side: int | None, seed: int
) -> None:
    chosen = TrainSettings(crop=32, scale=scale, jitter=0.5)
    cue, saliency = np.zeros(size, np.uint8), np.ones((7, 9), np.float32)
    rng = np.random.default_rng(seed)
    sample = augment(noise(*size), cue, saliency, chosen, rng, max_side)
    assert sample.cue is not None and sample.saliency is not None
    assert sample.image.shape == (32, 32, 3)
    assert sample.cue.shape == sample.saliency.shape == (32, 32)
    top, left, bottom, right = sample.valid
    assert 0 <= top < bottom <= 32 and 0 <= left < right <= 32
    assert ((sample.cue == 0).sum(), (sample.saliency == 255).sum()) == (
        (bottom - top) * (right - left),
    ) * 2


def test_scales_follow_the_longest_side_allowed() -> None:
    sample = augment(noise(64, 128), None, None, PLAIN, np.random.default_rng(0), max_side=32)
    top, left, bottom, right = sample.valid
    assert (bottom - top, right - left) == (16, 32)


def test_jitter_is_pillows_saturation_contrast_and_brightness() -> None:
    smooth = np.asarray(Image.fromarray(noise(4, 4)).resize((32, 32), Image.Resampling.BICUBIC))
    image = (smooth // 2 + 60).astype(np.uint8)  # clear of 0 and 255, where Pillow clips thrice
    color = (1.1, 0.8, 1.3)
    sample = cut(image, None, None, Window((32, 32), (0, 0), (32, 32), (0, 0), False, color), 32)
    expected = ImageEnhance.Color(Image.fromarray(image)).enhance(color[2])
    expected = ImageEnhance.Contrast(expected).enhance(color[1])
    expected = ImageEnhance.Brightness(expected).enhance(color[0])
    assert np.abs(sample.image.astype(int) - np.asarray(expected)).max() <= 4


def test_flips_and_scales_cover_their_range() -> None:
    image = noise(100, 100)
    wide = TrainSettings(crop=32, scale=(0.5, 1.5))
    samples = [augment(image, None, None, wide, np.random.default_rng(s)) for s in range(100)]
    assert len({s.image.tobytes() for s in samples}) > 95
    small = TrainSettings(crop=320, scale=(0.5, 1.5))
    sides = [
        np.diff(augment(image, None, None, small, np.random.default_rng(s)).valid[[0, 2]])[0]
        for s in range(100)
    ]
    assert 50 <= min(sides) < 60 and 140 < max(sides) <= 150


def test_a_sample_is_a_function_of_seed_stage_epoch_and_image() -> None:
    rows = table(noise(60, 80), noise(50, 40, seed=1), noise(33, 90, seed=2))
    chosen = TrainSettings(crop=32, jitter=0.4)
    whole = make_samples(rows, chosen, 5, 0, "fcan", 2)
    alone = make_samples(rows.slice(1, 1), chosen, 5, 0, "fcan", 2)
    assert np.array_equal(whole["image"][1:2], alone["image"])
    for other in [(1, "fcan", 2), (0, "joint", 2), (0, "fcan", 3)]:
        assert not np.array_equal(whole["image"], make_samples(rows, chosen, 5, *other)["image"])
    draws = [sample_rng(0, "fcan", 2, image_id).random() for image_id in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]


def test_samples_come_as_the_arrays_of_a_batch() -> None:
    cue = encode_labels(np.full((60, 80), 3, np.uint8))
    saliency = encode_map(np.ones((32, 32), np.float32))
    rows = table(noise(60, 80), noise(60, 80), cue=[cue, None], saliency=[saliency, None])
    batch = make_samples(rows, PLAIN, 5, 0, "joint", 0)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "image": ((2, 32, 32, 3), "uint8"),
        "tags": ((2, 5), "float32"),
        "valid": ((2, 4), "int32"),
        "cue": ((2, 32, 32), "uint8"),
        "saliency": ((2, 32, 32), "uint8"),
    }
    assert batch["tags"].tolist() == [[1, 0, 1, 0, 0]] * 2
    assert (batch["cue"][0] == 3).all() and (batch["saliency"][0] == 255).all()
    assert batch["valid"].tolist() == [[0, 0, 32, 32], [0, 0, 0, 0]]
    assert (batch["cue"][1] == 255).all() and (batch["saliency"][1] == 0).all()


def test_a_row_that_no_longer_decodes_counts_for_nothing() -> None:
    rows = table(noise(60, 80), noise(60, 80), noise(60, 80))
    rows = rows.set_column(3, "bytes", [[b"torn", None, rows["bytes"][2].as_py()]])
    rows = rows.append_column("cue", [[encode_labels(np.ones((60, 80), np.uint8))] * 3])
    batch = make_samples(rows, PLAIN, 5, 0, "joint", 0)
    for index in (0, 1):
        assert (batch["image"][index] == PADDING).all()
        assert not batch["tags"][index].any() and not batch["valid"][index].any()
        assert (batch["cue"][index] == 255).all()
    assert batch["tags"][2].any() and (batch["cue"][2] == 1).all()


def test_a_jpeg_decoded_small_shows_the_same_as_one_decoded_whole() -> None:
    smooth = np.asarray(Image.fromarray(noise(6, 8)).resize((800, 600), Image.Resampling.BICUBIC))
    chosen = TrainSettings(crop=64, scale=(0.2, 0.2), flip=False)
    batch = make_samples(table(smooth), chosen, 5, 0, "fcan", 0)
    whole = augment(smooth, None, None, chosen, sample_rng(0, "fcan", 0, "image0"))
    assert np.abs(batch["image"][0].astype(int) - whole.image).mean() < 2.0
    assert np.array_equal(batch["valid"][0], whole.valid)


@pytest.mark.parametrize("tag", [0, 6])
def test_a_tag_without_a_class_is_refused(tag: int) -> None:
    rows = table(noise(40, 40)).set_column(4, "tags", [[[tag]]])
    with pytest.raises(ValueError, match=f"the tag {tag}; ids go from 1 to 5"):
        make_samples(rows, PLAIN, 5, 0, "fcan", 0)


@needs_photographs
def test_photographs_become_samples() -> None:
    photos = sorted(JPEGS.glob("*.jpg"))[:8]
    images = [np.asarray(Image.open(photo)) for photo in photos]
    rows = table(*images).set_column(3, "bytes", [[photo.read_bytes() for photo in photos]])
    batch = make_samples(rows, TrainSettings(crop=224), 5, 0, "fcan", 0)
    assert batch["image"].std(axis=(1, 2, 3)).min() > 10


def test_training_decodes_whatever_size_ingest_has_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """``corpus.max_pixels`` is ingest's to judge by: no second limit drops an image in silence."""
    limits: list[int] = []

    def decode(data: bytes, max_pixels: int, at_least: tuple[int, int]) -> NDArray[np.uint8]:
        limits.append(max_pixels)
        return decode_rgb(data, max_pixels, at_least)

    monkeypatch.setattr("dcsp.training.augment.decode_rgb", decode)
    batch = make_samples(table(noise(40, 50)), PLAIN, 3, seed=0, stage="fcan", epoch=0)
    assert limits == [40 * 50] and batch["tags"].sum() == 2
