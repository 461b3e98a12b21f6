"""Decoding: every kind of image, and files that are none."""

from __future__ import annotations

import io
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_rgb, probe_size
from tests.images.pictures import PHOTO, RNG, encode, smooth

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


def test_rgb_comes_back_unchanged_and_writable() -> None:
    decoded = decode_rgb(encode(Image.fromarray(PHOTO), "PNG"))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, PHOTO)


@pytest.mark.parametrize("format_", ["BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG"])
def test_common_formats_decode(format_: str) -> None:
    image = smooth(20, 30)
    options = {"lossless": True} if format_ == "WEBP" else {}
    decoded = decode_rgb(encode(image, format_, **options))
    assert decoded.shape == (20, 30, 3)
    error = np.abs(decoded.astype(int) - np.asarray(image).astype(int)).mean()
    assert error < 12  # a GIF has 256 colours, a JPEG coarse chroma


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone_as_pillow_undoes_it(orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(PHOTO)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode(image, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as tagged:
        expected = np.asarray(ImageOps.exif_transpose(tagged))
    np.testing.assert_array_equal(decode_rgb(data), expected)
    assert probe_size(data) == expected.shape[:2]


def test_corrupt_exif_is_upright() -> None:
    data = encode(smooth(20, 30), "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12")
    assert decode_rgb(data).shape == (20, 30, 3)
    assert probe_size(data) == (20, 30)


def test_grey_palette_and_bilevel_become_rgb() -> None:
    grey = Image.fromarray(PHOTO[..., 0])
    decoded = decode_rgb(encode(grey, "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat(PHOTO[..., :1], 3, axis=2))
    palette = Image.fromarray(PHOTO).quantize(8)
    np.testing.assert_array_equal(
        decode_rgb(encode(palette, "PNG")), np.asarray(palette.convert("RGB"))
    )
    bilevel = decode_rgb(encode(grey.convert("1"), "PNG"))
    assert set(np.unique(bilevel)) == {0, 255}


def test_sixteen_bits_keep_their_upper_byte() -> None:
    values = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    decoded = decode_rgb(encode(Image.fromarray(values), "PNG"))
    assert np.abs(decoded[..., 1].astype(int) - values // 257).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_images_are_read_in_their_range(top: float) -> None:
    values = np.linspace(0, top, 600, dtype=np.float32).reshape(20, 30)
    values[3, 4] = np.nan
    decoded = decode_rgb(encode(Image.fromarray(values), "TIFF"))
    assert decoded[3, 4, 0] == 0
    assert decoded[-1, -1, 0] == 255
    assert abs(int(decoded[10, 0, 0]) - 128) <= 1


def test_negative_and_constant_pixels_are_stretched_safely() -> None:
    values = np.linspace(-5, 5, 600, dtype=np.float32).reshape(20, 30)
    decoded = decode_rgb(encode(Image.fromarray(values), "TIFF"))
    assert (decoded.min(), decoded.max()) == (0, 255)
    constant = np.full((4, 4), -7, np.int32)
    assert not decode_rgb(encode(Image.fromarray(constant), "TIFF")).any()


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    decoded = decode_rgb(encode(Image.fromarray(rgba), "PNG"))
    assert (decoded[:2] == (255, 0, 0)).all()
    assert (decoded[2:] == 255).all()
    palette = Image.fromarray(np.eye(4, dtype=np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 10, 20, 30])
    decoded = decode_rgb(encode(palette, "PNG", transparency=0))
    assert (decoded[0, 1] == 255).all()
    assert (decoded[0, 0] == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_print_colours_become_rgb(mode: str) -> None:
    image = smooth(32, 32)
    data = encode(image.convert(mode), "JPEG", quality=95)
    error = np.abs(decode_rgb(data).astype(int) - np.asarray(image).astype(int))
    assert error.mean() < 6


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_rgb(data) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>not an image</html>", "unreadable"),
        (encode(smooth(200, 200), "JPEG")[:-900], "truncated"),
        (encode(Image.fromarray(PHOTO), "PNG")[:1200], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unreadable"),
    ],
)
def test_bad_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_rgb(data)
    assert caught.value.reason == reason
    assert pickle.loads(pickle.dumps(caught.value)).reason == reason


def test_size_is_judged_before_decoding() -> None:
    huge = encode(Image.new("1", (20_000, 20_000)), "PNG")  # 400 million pixels in few bytes
    assert len(huge) < 100_000
    for limit in (1000, 10**9):
        with pytest.raises(ImageError) as caught:
            decode_rgb(huge, max_pixels=limit)
        assert caught.value.reason == "oversized"
    with pytest.raises(ImageError, match="30×20"):
        probe_size(encode(Image.fromarray(PHOTO), "PNG"), max_pixels=599)


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
def test_damaged_bytes_never_raise_anything_else(noise: bytes, format_: str) -> None:
    data = bytearray(encode(Image.fromarray(PHOTO), format_))
    start = (len(noise) * 37) % len(data)
    data[start : start + len(noise)] = noise
    try:
        decoded = decode_rgb(bytes(data), max_pixels=1_000_000)
    except ImageError as error:
        assert error.reason in ("empty", "truncated", "oversized", "unreadable")
    else:
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3
        assert decoded.dtype == np.uint8


@given(
    format_=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    progressive=st.booleans(),
    keep=st.floats(0.0, 1.0),
    noise=st.binary(max_size=40),
    start=st.floats(0.0, 1.0),
)
def test_what_is_found_by_checking_is_what_decoding_finds(
    format_: str, progressive: bool, keep: float, noise: bytes, start: float
) -> None:
    image = Image.fromarray(PHOTO).resize((97, 61))
    options = {"progressive": progressive} if format_ == "JPEG" else {}
    data = bytearray(encode(image, format_, **options))
    place = int(start * len(data))
    data[place : place + len(noise)] = noise
    damaged = bytes(data[: int(np.ceil(keep * len(data)))])
    try:
        found: object = decode_rgb(damaged, max_pixels=1_000_000).shape[:2]
    except ImageError as error:
        found = error.reason
    try:
        checked: object = check_image(damaged, max_pixels=1_000_000)
    except ImageError as error:
        checked = error.reason
    assert checked == found


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_checked_images_have_the_size_of_the_upright_image(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth(40, 60), "JPEG", exif=exif)
    assert check_image(data) == decode_rgb(data).shape[:2]


def test_a_large_jpeg_may_be_decoded_small() -> None:
    image = smooth(800, 1200)
    data = encode(image, "JPEG")
    small = decode_rgb(data, at_least=(190, 100))
    assert small.shape == (200, 300, 3)
    expected = np.asarray(image.resize((300, 200), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - expected).mean() < 3
    exif = image.getexif()
    exif[0x0112] = 6
    turned = decode_rgb(encode(image, "JPEG", exif=exif), at_least=(300, 200))
    assert turned.shape == (300, 200, 3)
    assert decode_rgb(encode(image, "PNG"), at_least=(10, 10)).shape == (800, 1200, 3)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_many_frames_one_is_decoded(format_: str) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (64, 64), np.uint8)) for _ in range(300)]
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:])
    with mock.patch.object(Image.Image, "seek", side_effect=AssertionError):
        assert check_image(data) == decode_rgb(data).shape[:2] == (64, 64)


@pytest.mark.parametrize("strip", [2**20, 200, 1])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_strips_are_converted_as_the_whole_image_is(
    mode: str, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode in ("I;16", "I", "F"):
        types = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        values = (RNG.integers(0, 65536, (20, 30)) - (mode == "I") * 9).astype(types[mode])
        data = encode(Image.fromarray(values), "TIFF")
    else:
        image = Image.fromarray(RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8))
        data = encode(image.convert("RGB" if mode in "1P" else "RGBA").convert(mode), "TIFF")
    whole = decode_rgb(data)
    monkeypatch.setattr("dcsp.images.decode._STRIP", strip)
    np.testing.assert_array_equal(decode_rgb(data), whole)
    assert check_image(data) == (20, 30)
