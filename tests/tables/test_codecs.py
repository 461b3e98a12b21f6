"""Codecs: what goes in comes out, any PNG reader sees the same pixels, and faults are named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from dcsp.tables import codecs

shapes_HW = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
unit = st.floats(0.0, 1.0, width=32)


def png(mode: str, pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@given(arrays(np.uint8, shapes_HW))
def test_labels_come_back_exactly_here_and_in_pillow(labels: np.ndarray) -> None:
    data = codecs.encode_labels(labels)
    assert np.array_equal(codecs.decode_labels(data), labels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)


def test_labels_carry_the_voc_palette() -> None:
    with Image.open(io.BytesIO(codecs.encode_labels(np.zeros((2, 2), np.uint8)))) as image:
        palette = np.array(image.getpalette()).reshape(256, 3)
    assert palette[0].tolist() == [0, 0, 0]
    assert palette[15].tolist() == [192, 128, 128]  # VOC's person
    assert palette[255].tolist() == [224, 224, 192]  # VOC's void


def test_labels_of_an_array_that_is_not_contiguous() -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(codecs.decode_labels(codecs.encode_labels(labels.T)), labels.T)
    assert np.array_equal(codecs.decode_labels(codecs.encode_labels(labels[::2])), labels[::2])


def test_labels_written_by_others_are_read() -> None:
    labels = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, optimize=True)
    assert np.array_equal(codecs.decode_labels(buffer.getvalue()), labels)
    assert np.array_equal(codecs.decode_labels(png("L", labels)), labels)


@given(arrays(np.int32, shapes_HW, elements=st.integers(0, 65_535)))
def test_regions_come_back_exactly_here_and_in_pillow(regions: np.ndarray) -> None:
    data = codecs.encode_regions(regions)
    decoded = codecs.decode_regions(data)
    assert decoded.dtype == np.int32 and np.array_equal(decoded, regions)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if regions.max() <= 255 else "I;16")
        assert np.array_equal(np.asarray(image), regions)


@pytest.mark.parametrize("last", [255, 256, 65_535])
def test_regions_of_either_depth(last: int) -> None:
    regions = np.array([[0, 1, last], [last, last - 1, 0]], np.int32)
    assert np.array_equal(codecs.decode_regions(codecs.encode_regions(regions.T)), regions.T)


def test_regions_that_do_not_fit_are_refused() -> None:
    for ids in ([[0, 65_536]], [[-1, 0]]):
        with pytest.raises(ValueError, match="smaller image or larger regions"):
            codecs.encode_regions(np.array(ids, np.int32))
    with pytest.raises(ValueError, match="HW int32"):
        codecs.encode_regions(np.zeros((2, 2), np.uint16))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode P"):
        codecs.decode_regions(codecs.encode_labels(np.zeros((2, 2), np.uint8)))


def test_decoded_arrays_may_be_written_to() -> None:
    labels = codecs.decode_labels(codecs.encode_labels(np.zeros((3, 3), np.uint8)))
    labels[0, 0] = 7
    assert labels.flags.c_contiguous and labels.flags.writeable


@given(arrays(np.float32, shapes_HW, elements=unit))
def test_a_map_is_rounded_once_and_then_stable(values: np.ndarray) -> None:
    data = codecs.encode_map(values)
    decoded = codecs.decode_map(data)
    assert decoded.dtype == np.float32
    assert decoded.min() >= 0.0 and decoded.max() <= 1.0
    assert np.abs(decoded - values).max() <= 1 / 510 + 1e-6
    assert codecs.encode_map(decoded) == data


def test_every_level_of_a_map_survives() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    decoded = codecs.decode_map(png("L", levels))
    assert np.array_equal(codecs.decode_labels(codecs.encode_map(decoded)), levels)
    assert decoded[0, 0] == 0.0 and decoded[-1, -1] == 1.0


@given(arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=unit))
def test_stacked_maps_are_the_maps_one_by_one(values: np.ndarray) -> None:
    data, shape = codecs.encode_maps(values)
    decoded = codecs.decode_maps(data, shape)
    assert shape == values.shape == decoded.shape
    for one, expected in zip(decoded, values, strict=True):
        assert np.array_equal(one, codecs.decode_map(codecs.encode_map(expected)))


def test_no_maps_are_no_bytes() -> None:
    data, shape = codecs.encode_maps(np.zeros((0, 4, 5), np.float32))
    assert (data, shape) == (b"", (0, 4, 5))
    assert codecs.decode_maps(data, shape).shape == (0, 4, 5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int64, np.bool_])
def test_raw_arrays_come_back_exactly(dtype: type) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for packed in (array, array.T, array[:0], array[1, 1]):
        back = codecs.unpack_array(codecs.pack_array(np.asarray(packed)))
        assert back.dtype == dtype and back.shape == np.shape(packed)
        assert np.array_equal(back, packed)


def test_python_objects_are_neither_packed_nor_unpacked() -> None:
    with pytest.raises(ValueError, match="Object"):
        codecs.pack_array(np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="no packed array"):
        codecs.unpack_array(b"|O 1\n" + bytes(8))


@pytest.mark.parametrize(
    "labels",
    [np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 3), np.uint8)],
)
def test_what_is_no_label_map_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="label map"):
        codecs.encode_labels(labels)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_a_map_outside_the_unit_interval_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        codecs.encode_map(np.array([[0.5, value]], np.float32))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        codecs.encode_maps(np.array([[[0.5, value]]], np.float32))


def test_maps_of_another_type_or_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        codecs.encode_map(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="NHW"):
        codecs.encode_maps(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png("L", np.eye(40) > 0)[:-30]]
)
def test_broken_bytes_are_a_value_error(data: bytes) -> None:
    for decode in (codecs.decode_labels, codecs.decode_map, codecs.unpack_array):
        with pytest.raises(ValueError):
            decode(data)


def test_a_png_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="mode RGB"):
        codecs.decode_labels(png("RGB", np.zeros((2, 2), np.uint8)))
    with pytest.raises(ValueError, match="mode P"):
        codecs.decode_map(codecs.encode_labels(np.zeros((2, 2), np.uint8)))
    with pytest.raises(ValueError, match="3 maps"):
        codecs.decode_maps(codecs.encode_map(np.zeros((4, 2), np.float32)), (3, 2, 2))
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        codecs.decode_maps(b"", (2, 2))
