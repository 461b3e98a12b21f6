"""Pictures to decode."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

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
