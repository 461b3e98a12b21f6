"""Images as they are written beside masks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from dcsp.errors import ImageError
from dcsp.exports.images import upright
from dcsp.images.decode import decode_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def encoded(kind: str, orientation: int = 1, **options: Any) -> bytes:
    made = io.BytesIO()
    if orientation != 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    Image.fromarray(PIXELS).save(made, kind, **options)
    return made.getvalue()


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp")]
)
def test_what_every_tool_reads_is_written_as_it_is(kind: str, suffix: str) -> None:
    data = encoded(kind)
    assert upright(data) == (data, suffix)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_other_formats_are_written_as_png(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(kind)
    made, suffix = upright(data)
    assert suffix == "png"
    with Image.open(io.BytesIO(made)) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), decode_rgb(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_exif_turns_is_written_turned(kind: str, orientation: int) -> None:
    data = encoded(kind, orientation)
    made, suffix = upright(data)
    assert suffix == "png"
    with Image.open(io.BytesIO(made)) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert np.array_equal(np.asarray(image), decode_rgb(data))
        assert image.size == ((24, 40) if orientation >= 5 else (40, 24))


@pytest.mark.parametrize("data", [b"", b"no image", encoded("TIFF")[:200]])
def test_what_is_no_image_is_told(data: bytes) -> None:
    with pytest.raises(ImageError):
        upright(data)
