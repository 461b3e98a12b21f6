"""Pictures of pages: images, and maps and labels over them, as small inlined WebP files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcsp.errors import ImageError
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import limit_side, resize_labels, resize_map, resize_rgb
from dcsp.labels import BACKGROUND, IGNORE
from dcsp.report.markup import Url
from dcsp.report.palette import class_colours

SIDE = 320
"""Longest side of a picture in pixels: about twice the size it is shown at, for sharp screens."""

_HEAT = np.array(
    [
        (8, 6, 20), (40, 11, 84), (101, 21, 110), (159, 42, 99),
        (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 190),
    ],
    dtype=np.float32,
)  # fmt: skip
"""Control points of the heat scale from 0 to 1: dark violet to pale yellow, even in lightness."""
_DIM = 0.45
"""Brightness of the grey image behind labels and attention."""
_OPACITY = 0.72
"""Opacity of a class colour over the image."""
CHANGED = np.array((255, 196, 61), np.uint8)
"""Colour of pixels that changed: amber, of no class's colour."""
BLANK_SIDE = 256
"""Longest side in pixels of the grey that stands for an image that does not decode."""
_HATCH = 6
"""Period in pixels of the stripes of ignored regions."""

Picture = NDArray[np.uint8]


def decode_image(
    row: Mapping[str, Any], max_pixels: int, longest: int | None = None
) -> NDArray[np.uint8]:
    """The image of a row; grey where it does not decode: its tables then tell of the error.

    Args:
        row: With ``bytes``, ``height`` and ``width``.
        max_pixels: Images of more pixels do not decode.
        longest: Side in pixels that is enough for the caller.
    """
    try:
        enough = limit_side(row["height"], row["width"], longest) if longest else None
        return decode_rgb(row["bytes"], max_pixels, enough)
    except ImageError:
        height, width = limit_side(row["height"], row["width"], BLANK_SIDE)
        return np.full((height, width, 3), 128, np.uint8)


def shrink(image: Picture) -> Picture:
    """An image (HWC uint8 RGB) whose longest side is at most :data:`SIDE` pixels."""
    height, width = limit_side(image.shape[0], image.shape[1], SIDE)
    return image if (height, width) == image.shape[:2] else resize_rgb(image, height, width)


def heat(values: NDArray[np.float32], height: int, width: int, *, corners: bool = False) -> Picture:
    """A map (HW float32 in [0,1]) in heat colours, HWC uint8 at the given size.

    ``corners`` as :func:`dcsp.images.resize.resize_map` takes it.
    """
    resized = np.clip(resize_map(values, height, width, corners=corners), 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_HEAT))
    channels = [np.interp(resized, stops, _HEAT[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def overlay_attention(
    image: Picture, attention: NDArray[np.float32], tags: Sequence[int]
) -> Picture:
    """Attention in class colours over the dimmed image, HWC uint8.

    Args:
        image: HWC uint8 RGB.
        attention: (n, h, w) float32 in [0,1], one map a tag, any size.
        tags: Class id of each map.
    """
    base = _dimmed(image)
    if not len(tags):
        return base.astype(np.uint8)
    full = np.clip(resize_map(attention, *image.shape[:2], corners=True), 0.0, 1.0)
    strongest = full.argmax(axis=0)
    colours = class_colours()[np.asarray(tags)][strongest].astype(np.float32)
    opacity = full.max(axis=0)[..., None] * 0.9
    painted: NDArray[np.float32] = base * (1 - opacity) + colours * opacity
    return painted.astype(np.uint8)


def overlay_labels(image: Picture, labels: NDArray[np.uint8]) -> Picture:
    """Labels in class colours with outlines over the dimmed image, ignored regions striped.

    Args:
        image: HWC uint8 RGB.
        labels: HW uint8, any size; resized to the nearest label.

    Returns:
        HWC uint8 of the image's size.
    """
    height, width = image.shape[:2]
    ids = resize_labels(labels, height, width)
    base = _dimmed(image)
    classes = (ids != BACKGROUND) & (ids != IGNORE)
    colours = class_colours()[ids].astype(np.float32)
    lit = image.astype(np.float32).mean(axis=-1, keepdims=True)
    painted = np.where(classes[..., None], _OPACITY * colours + (1 - _OPACITY) * lit, base)
    rows, columns = np.ogrid[:height, :width]
    stripes = (ids == IGNORE) & ((rows + columns) % _HATCH < _HATCH // 2)
    painted[stripes] = 0.55 * painted[stripes] + 0.45 * 255
    painted[_outline(ids)] = 250
    return painted.astype(np.uint8)


def data_url(picture: Picture) -> Url:
    """A picture (HWC uint8 RGB) as a ``data:`` URL of a WebP file."""
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(sink, "WEBP", quality=80, method=4)
    return Url.of("webp", sink.getvalue())


def _dimmed(image: Picture) -> NDArray[np.float32]:
    grey = image.astype(np.float32).mean(axis=-1, keepdims=True)
    return np.repeat(_DIM * grey, 3, axis=-1)


def _outline(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    return edge
