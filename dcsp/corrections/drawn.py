"""What a file of corrections says of one image: names of classes, painted when they are asked for.

Files name classes by their names, so that a correction means the same whatever ids classes have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from dcsp.corpus.sources.files import is_image, stem
from dcsp.errors import ImageError
from dcsp.labels import BACKGROUND, IGNORE, TagMapper

BACKGROUND_NAME, IGNORED_NAME = "background", "ignored"
"""What files call 0 and 255."""
UNREADABLE = "unreadable_correction"
"""Reason of a correction that is no label map."""
_FAR = 2**31
T = TypeVar("T")
Size = tuple[int, int]
"""Height and width in pixels."""
Mask = Callable[[Size], NDArray[np.bool_]]
"""Size of the image → HW bool; may raise ValueError."""


class Ids:
    """What names mean under a config.

    Args:
        mapper: Of its classes.
    """

    def __init__(self, mapper: TagMapper) -> None:
        self._mapper = mapper
        self.classes = len(mapper.classes)

    def __call__(self, name: str) -> int:
        """The id of a class; 255 of what is no class here: nobody learns from it."""
        if self.is_known(name):
            return self._mapper.lookup(name) or (BACKGROUND if _is_background(name) else IGNORE)
        return IGNORE

    def is_known(self, name: str) -> bool:
        """Whether it is a class, the background, or what is to be ignored."""
        known = self._mapper.lookup(name) is not None
        return known or _is_background(name) or name.strip().lower() == IGNORED_NAME


def _is_background(name: str) -> bool:
    return name.strip().lower() == BACKGROUND_NAME


class Drawn(NamedTuple):
    """A correction of one image.

    Attributes:
        image: The image, as the file names it.
        paint: Its size → HW uint8 of class ids; may raise ValueError and ImageError.
        size: Its size as the file says it; None: it does not.
        names: The classes that it draws.
    """

    image: str
    paint: Callable[[Size, Ids], NDArray[np.uint8]]
    size: Size | None = None
    names: tuple[str, ...] = ()

    def ids(self) -> Iterator[str]:
        """What the id of the image may be, likeliest first.

        >>> list(Drawn("images/a/b.c.jpg", lambda size, ids: ...).ids())
        ['images/a/b.c.jpg', 'images/a/b.c', 'a/b.c.jpg', 'a/b.c']
        """
        name = re.sub(r"^(\./|/)+", "", self.image.strip().replace("\\", "/"))
        for path in dict.fromkeys((name, name.removeprefix("images/"))):
            yield path
            if is_image(path):
                yield stem(path)


class Region(NamedTuple):
    """One shape: the name of a class and its pixels."""

    name: str
    mask: Mask


def of_regions(image: str, size: Size | None, regions: Sequence[Region]) -> Drawn:
    """Shapes over background; where two overlap, the later one is on top."""

    def paint(size: Size, ids: Ids) -> NDArray[np.uint8]:
        label = np.full(size, BACKGROUND, np.uint8)
        for name, mask in regions:
            label[mask(size)] = ids(name)
        return label

    return Drawn(image, paint, size, tuple(dict.fromkeys(region.name for region in regions)))


def later(make: Callable[[T], Mask], told: T) -> Mask:
    """A shape that is read when it is painted, so that a bad one costs its own image alone."""
    return lambda size: make(told)(size)


def polygon(corners: NDArray[np.float64]) -> Mask:
    """The pixels whose centres lie in a polygon.

    Args:
        corners: (n, 2) x and y in pixels; the corner of the image is (0, 0).

    Raises:
        ValueError: There are less than three, or one is far beyond any image, or nowhere.
    """
    if not (np.abs(corners) < _FAR).all():  # NaN, too: these would paint nothing, silently
        raise ValueError("a polygon with a corner beyond any image")
    if corners.ndim != 2 or corners.shape[1:] != (2,) or len(corners) < 3:
        raise ValueError("a polygon of less than three corners")

    def mask(size: Size) -> NDArray[np.bool_]:
        found = polygon2mask(size, corners[:, ::-1] - 0.5)  # type: ignore[no-untyped-call]
        return np.asarray(found, bool)

    return mask


def no_label(error: Exception) -> ImageError:
    """A correction that cannot be painted, as its row tells it."""
    return ImageError(UNREADABLE, f"it is no label map ({error})")
