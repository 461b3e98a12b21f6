"""Every kind of image file becomes HWC uint8 RGB or one error with a reason."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_rgb, probe_size
from dcsp.images.resize import limit_side, resize_labels, resize_map, resize_rgb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def smooth(height: int, width: int) -> Image.Image:
    """An image that JPEG keeps nearly unchanged."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 128 + 0 * x)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


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


def test_resized_images_are_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_rgb(stripes, 16, 8)
    assert small.shape == (16, 8, 3)
    assert np.abs(small.astype(int) - 128).max() < 24
    same = resize_rgb(stripes, 64, 64)
    assert same is not stripes
    np.testing.assert_array_equal(same, stripes)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
        elements=st.floats(0, 1, width=32),
    ),
    st.integers(1, 9),
    st.integers(1, 9),
)
@pytest.mark.parametrize("corners", [False, True])
def test_resized_maps_stay_in_range(
    corners: bool, map_: np.ndarray, height: int, width: int
) -> None:
    resized = resize_map(map_, height, width, corners=corners)
    assert resized.dtype == np.float32
    assert resized.shape == (*map_.shape[:-2], height, width)
    assert resized.min() >= map_.min() - 1e-6
    assert resized.max() <= map_.max() + 1e-6


def test_the_values_of_a_score_map_lie_on_every_strideth_pixel() -> None:
    stretched = resize_map(np.array([[0.0, 1.0, 4.0]]), 1, 5, corners=True)
    np.testing.assert_allclose(stretched, [[0.0, 0.5, 1.0, 2.5, 4.0]])
    maps = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    full = resize_map(maps, 65, 49, corners=True)
    np.testing.assert_allclose(full[:, ::16, ::16], maps, atol=1e-5)
    columns = np.stack([[np.interp(np.arange(49) / 16, range(4), row) for row in m] for m in maps])
    rows = np.stack([[np.interp(np.arange(65) / 16, range(5), c) for c in m.T] for m in columns])
    np.testing.assert_allclose(full, rows.transpose(0, 2, 1), atol=1e-5)


def test_maps_are_resized_between_pixel_centres() -> None:
    doubled = resize_map(np.array([[0.0, 1.0]]), 1, 4)
    np.testing.assert_allclose(doubled, [[0.0, 0.25, 0.75, 1.0]])
    assert resize_map(np.zeros((0, 3, 3), np.float32), 5, 6).shape == (0, 5, 6)
    read_only = np.eye(4, dtype=np.float32)
    read_only.flags.writeable = False
    assert resize_map(read_only[::-1], 8, 8).shape == (8, 8)
    with pytest.raises(ValueError, match="HW or CHW"):
        resize_map(np.zeros(3), 2, 2)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_labels_are_resized_as_pillow_resizes_nearest(
    labels: np.ndarray, height: int, width: int
) -> None:
    for old, new in zip(labels.shape, (height, width), strict=True):
        # at ties Pillow rounds either way
        assume(all((2 * index + 1) * old % (2 * new) for index in range(new)))
    expected = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_labels(labels, height, width), np.asarray(expected))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000))
def test_the_longest_side_is_limited(height: int, width: int, max_side: int) -> None:
    limited = limit_side(height, width, max_side)
    assert max(limited) <= max(max_side, 1)
    assert min(limited) >= 1
    if max(height, width) <= max_side:
        assert limited == (height, width)
    assert limit_side(height, width, None) == (height, width)


def with_scans(scans: int) -> bytes:
    """A progressive JPEG with so many empty scans more."""
    data = encode(smooth(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    head = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:-2] + (head + bytes(2)) * scans + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    """Each is a pass over all pixels: one file took minutes."""
    assert decode_rgb(with_scans(50)).shape == (*check_image(with_scans(50)), 3)
    for data in (with_scans(150), with_scans(5000)):
        for read in (decode_rgb, check_image, probe_size):
            with pytest.raises(ImageError, match="more than 100 scans") as caught:
                read(data)
            assert caught.value.reason == "too_many_scans"


def test_scans_of_other_images_in_a_file_do_not_count() -> None:
    scans = with_scans(60)
    thumbnail = encode(smooth(64, 64), "JPEG", exif=b"Exif\0\0" + scans)
    assert check_image(thumbnail) == (64, 64)
    assert check_image(scans + scans) == (64, 64)


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


@pytest.mark.parametrize(("format_", "fits"), [("PNG", True), ("WEBP", False), ("AVIF", False)])
def test_formats_that_take_more_memory_may_have_fewer_pixels(format_: str, fits: bool) -> None:
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow does not know {format_}")
    data = encode(smooth(20, 30), format_)
    for read in (decode_rgb, check_image, probe_size):
        if fits:
            read(data, max_pixels=600)
        else:
            with pytest.raises(ImageError, match=f"1/2 of corpus.max_pixels=600, for {format_}"):
                read(data, max_pixels=600)
        read(data, max_pixels=1200)


PEAK = """
import resource, sys
from dcsp.images import decode
from dcsp.errors import ImageError
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    getattr(decode, sys.argv[1])(data)
except ImageError as error:
    assert error.reason == "oversized", error
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="counts in other units")
@pytest.mark.parametrize(
    ("format_", "mode", "checked", "decoded"),
    [
        ("PNG", "I;16", 2, 5),  # took 25
        ("PNG", "RGB", 4, 7),
        ("PNG", "RGBA", 4, 7),
        ("AVIF", "RGB", 13, 16),
        ("WEBP", "RGB", 13, 16),
    ],
)
def test_a_small_file_takes_little_memory(
    format_: str, mode: str, checked: int, decoded: int
) -> None:
    """Bytes a pixel, beside 40 MiB for the strips and for code that is loaded meanwhile."""
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow does not know {format_}")
    options = {"AVIF": {"speed": 10}, "WEBP": {"lossless": True, "quality": 0}}
    data = encode(Image.new(mode, (4000, 4000)), format_, **options.get(format_, {}))
    assert len(data) < 100_000
    for function, most in (("check_image", checked), ("decode_rgb", decoded)):
        command = [sys.executable, "-c", PEAK, function]
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        assert float(done.stdout) < most * 4000**2 / 2**20 + 40, function
