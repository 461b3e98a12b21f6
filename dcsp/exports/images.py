"""Images as tools show them: the file as it was ingested, wherever it looks the same to all."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from dcsp.images.decode import decode_rgb

_KNOWN = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp"}
"""Formats that browsers show and trainers read → suffix; others are written as PNG."""
_HEAVIEST = 2  # pixels of some formats count twice (dcsp.images.decode)


def upright(data: bytes) -> tuple[bytes, str]:
    """An image whose pixels lie as its label's do, and the suffix of its file.

    Labels are of the image as EXIF turns it, which not every tool does: such a one is written
    turned, as PNG.

    Args:
        data: The file, which ingest could read.

    Raises:
        ImageError: It cannot be read any more.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            suffix = _KNOWN.get(opened.format or "")
            if suffix and opened.getexif().get(ExifTags.Base.Orientation, 1) == 1:
                return data, suffix
            pixels = opened.width * opened.height
    except (OSError, ValueError, SyntaxError):
        pixels = 1  # of what is no image, decoding tells
    made = io.BytesIO()
    Image.fromarray(decode_rgb(data, _HEAVIEST * pixels)).save(made, "PNG")
    return made.getvalue(), "png"
