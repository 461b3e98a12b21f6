"""An image and what was made of it as layers: small files of one size, to lie upon one another.

Label maps are PNG files in the page's colours whose background is transparent, so that a browser
shows them over the photograph by itself, and a script knows the class of a pixel by its colour.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcsp.images.resize import limit_side, resize_labels, resize_rgb
from dcsp.labels import BACKGROUND, IGNORE
from dcsp.report.markup import Url
from dcsp.report.palette import class_colours
from dcsp.report.panels import CHANGED, Picture, heat

LONGEST = 640
"""Longest side in pixels of the layers of an image that is shown at full size."""
_LEAST = 32
"""Longest side below which a picture shows nothing."""
_PIXELS_OF_BYTE = 4
"""Pixels whose layers take about a byte: the first try."""
_IGNORED_OPACITY = 110


@dataclass(frozen=True)
class Layer:
    """One picture of an image.

    Attributes:
        title: Such as ``"published"``; of the photograph ``"image"``.
        kind: ``photo``; ``labels``: in colours of classes, the background transparent; ``map``: in
            heat colours.
        type: Of the file, such as ``"png"``.
        data: The file.
        height: In pixels.
        width: In pixels.
        classes: Class ids that labels show, 255 among them; of other kinds none.
    """

    title: str
    kind: str
    type: str
    data: bytes
    height: int
    width: int
    classes: tuple[int, ...] = ()

    @property
    def url(self) -> Url:
        """The layer as a ``data:`` URL."""
        return Url.of(self.type, self.data)


@dataclass(frozen=True, eq=False)
class Pictures:
    """An image with all that was made of it, as arrays; what is None or empty is not shown.

    Attributes:
        image: HWC uint8 RGB, any size.
        labels: Title, such as ``"published"`` → HW uint8 label map; the first lies over the
            photograph until another is chosen.
        changed: HW bool: pixels whose label is another than in the run before.
        saliency: Title, such as ``"S_1"`` → HW float32 in [0,1], any size.
        attention: Title → HW float32 in [0,1] at the cells of a score map.
    """

    image: Picture
    labels: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    changed: NDArray[np.bool_] | None = None
    saliency: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    attention: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def layers(self, most: int) -> tuple[Layer, ...]:
        """All as layers, the photograph first, as large as fits.

        Args:
            most: Bytes that the layers may take together.

        Returns:
            Layers of one size; none at all where nothing that can be seen is small enough.
        """
        side = longest_side(most)
        while side >= _LEAST:
            height, width = limit_side(self.image.shape[0], self.image.shape[1], side)
            layers = tuple(self._layers(height, width))
            if sum(len(layer.data) for layer in layers) <= most:
                return layers
            side = side * 4 // 5
        return ()

    def _layers(self, height: int, width: int) -> Iterator[Layer]:
        yield _picture("image", "photo", resize_rgb(self.image, height, width))
        for title, labels in self.labels.items():
            yield _label_layer(title, resize_labels(labels, height, width), class_colours())
        if self.changed is not None:
            mask = resize_labels(self.changed.astype(np.uint8), height, width)
            layer = _label_layer("changed", mask, CHANGED[None].repeat(256, axis=0))
            yield replace(layer, classes=())
        for maps, corners in ((self.saliency, False), (self.attention, True)):
            for title, map_ in maps.items():
                yield _picture(title, "map", heat(map_, height, width, corners=corners))


def longest_side(most: int) -> int:
    """Longest side in pixels that the layers of an image may have that take so many bytes."""
    return min(LONGEST, max(_LEAST, math.isqrt(_PIXELS_OF_BYTE * most)))


def _label_layer(title: str, labels: NDArray[np.uint8], colours: NDArray[np.uint8]) -> Layer:
    """A label map as a PNG of as few colours as it has."""
    found = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    places = np.zeros(256, np.uint8)
    places[found] = np.arange(len(found))
    picture = Image.fromarray(places[labels])
    picture.putpalette(colours[found].tobytes())
    opacity = np.where(found == BACKGROUND, 0, np.where(found == IGNORE, _IGNORED_OPACITY, 255))
    sink = io.BytesIO()
    transparency = opacity.astype(np.uint8).tobytes()
    picture.save(sink, "PNG", transparency=transparency)
    height, width = labels.shape
    return Layer(title, "labels", "png", sink.getvalue(), height, width, tuple(found.tolist()))


def _picture(title: str, kind: str, picture: Picture) -> Layer:
    sink = io.BytesIO()
    quality = 75 if kind == "photo" else 50
    Image.fromarray(picture).save(sink, "WEBP", quality=quality, method=4)
    return Layer(title, kind, "webp", sink.getvalue(), *picture.shape[:2])
