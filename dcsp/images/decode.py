"""Safe decoding of images from anywhere.

Whatever a file holds, :func:`decode_rgb` gives an HWC uint8 RGB array or one :class:`ImageError`
with a short reason; nothing here reads paths, keeps state, or lets Pillow warn about a bad file.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from dcsp.errors import ImageError

MAX_PIXELS = 100_000_000
"""Default limit of :func:`decode_rgb`, in pixels."""

# What photographs come in. Formats that run programs or hold documents (EPS, PDF, WMF) stay out.
_WANTED = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
Image.init()
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

# Pillow warns of corrupt metadata and large images. Both are judged here, and ``catch_warnings``
# is not safe in threads, so the filter is set once.
warnings.filterwarnings("ignore", module=r"PIL\.")

# EXIF orientation → what undoes it; 1 is upright (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
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
        ImageError: With reason ``empty``, ``truncated``, ``oversized`` or ``unreadable``.
    """
    image = _open(data, max_pixels)
    orientation = _orientation(image)
    if at_least is not None:
        height, width = at_least[::-1] if orientation in _QUARTER_TURNS else at_least
        image.draft(None, (width, height))
    try:
        image.load()
        upright = _to_rgb(image)
        if orientation in _UPRIGHT:
            upright = upright.transpose(_UPRIGHT[orientation])
        return np.array(upright, dtype=np.uint8)
    except MemoryError:  # a fault of the machine, never of the image
        raise
    except Exception as error:  # a broken file can make a decoder raise nearly anything
        raise _failure(error) from error


def check_image(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """See that an image can be decoded, and how large it is.

    All of the file is read, as :func:`decode_rgb` reads it, but a JPEG becomes pixels at 1/8 of its
    size, in a third of the time: whatever can be wrong with it shows before that.

    Returns:
        (height, width) in pixels, equal to the first two axes of what :func:`decode_rgb` gives.

    Raises:
        ImageError: When and as :func:`decode_rgb` does.
    """
    image = _open(data, max_pixels)
    if image.format not in ("JPEG", "MPO"):
        height, width = decode_rgb(data, max_pixels).shape[:2]
        return height, width
    width, height = image.size
    turned = _orientation(image) in _QUARTER_TURNS
    image.draft(None, (1, 1))
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:  # the whole decoder says what is wrong, or that this JPEG has no 1/8
        decode_rgb(data, max_pixels)
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
    if width * height > max_pixels:
        raise ImageError(
            "oversized", f"{width}×{height} pixels are more than corpus.max_pixels={max_pixels}"
        )
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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring grey pixels of more than eight bits to 0–255."""
    values = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(pixels.dtype, np.integer):
        low, high = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    elif low >= 0 and high <= 255:
        low, high = (0.0, 1.0 if high <= 1 else 255.0)
    stretch = 255.0 / (high - low) if high > low else 0.0
    return np.asarray((values - low) * stretch + 0.5, dtype=np.uint8)
