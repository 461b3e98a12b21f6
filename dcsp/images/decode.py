"""Safe decoding of images from anywhere.

Whatever a file holds, :func:`decode_rgb` gives an HWC uint8 RGB array or one :class:`ImageError`
with a short reason; nothing here reads paths, keeps state, or lets Pillow warn about a bad file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from dcsp.errors import ImageError
from dcsp.images import scans

MAX_PIXELS = 100_000_000
"""Default limit of :func:`decode_rgb`, in pixels."""

_STRIP = 2**20  # pixels that are converted at once
_WEIGHTS = {"WEBP": 2, "AVIF": 2, "JPEG2000": 2}
"""Formats whose decoders hold the whole image several times (12 to 20 bytes a pixel, where others
take 4) → pixels of others that take as much memory."""

# What photographs come in. Formats that run programs or hold documents (EPS, PDF, WMF) stay out.
_WANTED = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_JPEGS = ("JPEG", "MPO")
_LEVEL_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
Image.init()
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

_BEST_FIRST = ("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff")
_SUFFIXES = (
    suffix.removeprefix(".")
    for suffix, name in sorted(Image.registered_extensions().items())
    if name in (*_FORMATS, "MPO")  # an MPO is opened as a JPEG
)
IMAGE_SUFFIXES = tuple(dict.fromkeys((*_BEST_FIRST, *_SUFFIXES)))
"""Extensions of what :func:`decode_rgb` reads with this Pillow, lower case, best first."""

# Pillow warns of corrupt metadata and large images. Both are judged here, and ``catch_warnings``
# is not safe in threads, so the filter is set once.
warnings.filterwarnings("ignore", module=r"PIL\.")

# EXIF orientation → what undoes it: whether to mirror left and right, then quarter turns to the
# left; 1 is upright (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}
_QUARTER_TURNS = (5, 6, 7, 8)


def decode_rgb(
    data: bytes, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode an image file to RGB.

    EXIF orientation is applied; greyscale, palette, CMYK and 16-bit images become RGB (integers
    of more than 8 bits are taken as 0–65535, floats as 0–1 or 0–255, and what lies outside as
    minimum–maximum); transparent pixels are laid over white; of an animation the first frame is
    taken; colour profiles are not applied.

    Args:
        data: The whole file.
        max_pixels: Images with more pixels are refused from their header, before decoding.
        at_least: (height, width) that is enough for the caller: a JPEG may then come back at 1/2,
            1/4 or 1/8 of its size, whichever is the smallest that is no smaller than this.

    Returns:
        HWC uint8 RGB, writable, of the upright image.

    Raises:
        ImageError: With reason ``empty``, ``truncated``, ``oversized``, ``too_many_scans`` or
            ``unreadable``.
    """
    image = _open(data, max_pixels)
    orientation = _orientation(image)
    if at_least is not None:
        height, width = at_least[::-1] if orientation in _QUARTER_TURNS else at_least
        image.draft(None, (width, height))
    try:
        image.load()
        return _turned(_to_rgb(image), orientation)
    except MemoryError:  # a fault of the machine, never of the image
        raise
    except Exception as error:  # a broken file can make a decoder raise nearly anything
        raise _failure(error) from error


def check_image(
    data: bytes, max_pixels: int = MAX_PIXELS, on_open: Callable[[int], None] = lambda _: None
) -> tuple[int, int]:
    """See that an image can be decoded, and how large it is.

    All of the file is read, as :func:`decode_rgb` reads it, but of the pixels one becomes RGB, and
    a JPEG becomes pixels at 1/8 of its size, in a third of the time: whatever can be wrong with it
    shows before that.

    Args:
        data: The whole file.
        max_pixels: As of :func:`decode_rgb`.
        on_open: Told how many pixels it has, before any is decoded.

    Returns:
        (height, width) in pixels, equal to the first two axes of what :func:`decode_rgb` gives.

    Raises:
        ImageError: When and as :func:`decode_rgb` does.
    """
    image = _open(data, max_pixels)
    turned = _orientation(image) in _QUARTER_TURNS
    size = image.size
    on_open(size[0] * size[1])
    is_jpeg = image.format in _JPEGS
    if is_jpeg:
        image.draft(None, (1, 1))
    try:
        image.load()
        if not is_jpeg:
            size = image.size  # of a few formats decoding alone tells
            _to_rgb(image.crop((0, 0, 1, 1)))
    except MemoryError:
        raise
    except Exception as error:
        if not is_jpeg:
            raise _failure(error) from error
        decode_rgb(data, max_pixels)  # it says what is wrong, or that this JPEG has no 1/8
    width, height = size
    return (width, height) if turned else (height, width)


def probe_size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Size of an image after EXIF orientation, read from its header alone.

    Returns:
        (height, width) in pixels, equal to the first two axes of what :func:`decode_rgb` gives.

    Raises:
        ImageError: As :func:`decode_rgb`, as far as the header shows it.
    """
    image = _open(data, max_pixels)
    width, height = image.size
    return (width, height) if _orientation(image) in _QUARTER_TURNS else (height, width)


def decode_levels(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a palette or 8-bit grey image file to its pixels.

    Args:
        data: The whole file: PNG, BMP, GIF or TIFF.
        size: (height, width) that it must have, judged before decoding.

    Returns:
        HW uint8, read-only.

    Raises:
        ImageError: With reason ``unreadable``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_LEVEL_FORMATS) as image:
            if image.size != size[::-1]:
                turned = ": turn it as EXIF turns its image" if image.size == size else ""
                told = f"it is {image.size}, its image {size[::-1]} pixels{turned}"
                raise ImageError("unreadable", told)
            if image.mode not in ("P", "L"):
                told = f"it is {image.mode}, not palette or 8-bit grey: save class ids as such"
                raise ImageError("unreadable", told)
            image.load()
            return levels(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a broken file can make a decoder raise nearly anything
        raise ImageError("unreadable", f"it cannot be decoded ({error})") from error


def levels(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a palette or 8-bit grey image, HW uint8, read-only.

    They are the memory of the image itself where Pillow can share it (a thirtieth of the time).
    """
    try:
        shared: NDArray[np.uint8] = pa.array(cast(Any, image)).to_numpy()
        return shared.reshape(image.height, image.width)
    except (TypeError, ValueError):  # an older Pillow, or rows in several pieces of memory
        return np.asarray(image, np.uint8)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError("empty", "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except MemoryError:
        raise
    except Exception as error:
        raise _failure(error) from error
    width, height = image.size
    weight = _WEIGHTS.get(image.format or "", 1)
    if width * height * weight > max_pixels:
        share = f"1/{weight} of " if weight > 1 else ""
        told = f"{width}×{height} pixels are more than {share}corpus.max_pixels={max_pixels}"
        raise ImageError("oversized", told + (f", for {image.format}" if share else ""))
    if image.format in _JPEGS and scans.has_too_many_scans(data):
        told = f"it has more than {scans.MOST} scans, each of which takes the time of an image"
        raise ImageError("too_many_scans", told)
    return image


def _failure(error: Exception) -> ImageError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("oversized", f"more pixels than Pillow decodes ({error})")
    text = str(error) or type(error).__name__
    lowered = text.lower()
    if isinstance(error, EOFError) or "truncated" in lowered or "not enough" in lowered:
        return ImageError("truncated", f"the file ends too early ({text})")
    if isinstance(error, UnidentifiedImageError):
        return ImageError("unreadable", "the bytes are no image of a known format")
    return ImageError("unreadable", f"the image cannot be decoded ({text})")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # an image with corrupt metadata is still an image: take it as upright
        return 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """HWC uint8 RGB of a loaded image, a few rows after the other: copies on the way stay small."""
    width, height = image.size
    is_deep = image.mode.startswith("I") or image.mode == "F"
    convert = _stretcher(image) if is_deep else _colours
    found = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        found[top:bottom] = convert(strip)
    return found


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    """The RGB of an image of 8 bits a channel, HWC."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _stretcher(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """What brings grey pixels of more than eight bits, of an image or a part of it, to 0–255."""
    low, high = _range(image)
    if image.mode != "F":
        low, high = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    elif low >= 0 and high <= 255:
        low, high = (0.0, 1.0 if high <= 1 else 255.0)
    stretch = 255.0 / (high - low) if high > low else 0.0

    def convert(part: Image.Image) -> NDArray[np.uint8]:
        grey = np.asarray((_values(part) - low) * stretch + 0.5, dtype=np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)

    return convert


def _range(image: Image.Image) -> tuple[float, float]:
    """The least and the greatest pixel of a grey image."""
    width, height = image.size
    rows = max(1, _STRIP // max(1, width))
    tops = range(0, height, rows)
    strips = (_values(image.crop((0, y, width, min(y + rows, height)))) for y in tops)
    ends = [(float(strip.min()), float(strip.max())) for strip in strips]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _values(image: Image.Image) -> NDArray[np.float64]:
    """The pixels of a grey image; what is no number is 0."""
    return np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)


def _turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """An image turned upright, C-contiguous."""
    if orientation not in _UPRIGHT:
        return image
    flip, turns = _UPRIGHT[orientation]
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if flip else image, turns))
