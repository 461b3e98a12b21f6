"""What a format is: what it writes for each image, for each part, and at the end."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.corrections.drawn import BACKGROUND_NAME, IGNORED_NAME
from dcsp.exports.images import upright
from dcsp.exports.place import Place
from dcsp.labels import BACKGROUND, IGNORE, voc_palette
from dcsp.tables.codecs import decode_labels

Record = dict[str, Any]
"""What a document tells of one image, as JSON has it."""
Records = Callable[[Sequence[str]], Iterator[Record]]
"""Splits → their records, in the order of the corpus, read anew at every call."""
PALETTE = voc_palette()


@dataclass(frozen=True)
class Row:
    """An image with a label.

    Attributes:
        number: Its place in the corpus of the run, from 1: the same in every export of the run.
        image_id: Of the image.
        split: Of the image.
        png: The label, a palette PNG.
        content: The image file as it was ingested; empty where the format asks for none.
    """

    number: int
    image_id: str
    split: str
    png: bytes
    content: bytes = b""

    @cached_property
    def label(self) -> NDArray[np.uint8]:
        """The label: HW uint8."""
        return decode_labels(self.png)

    @cached_property
    def image(self) -> tuple[bytes, str]:
        """The image file to write, and its suffix.

        Raises:
            ImageError: It cannot be read any more.
        """
        return upright(self.content)

    def shown(self, ids: Iterable[int]) -> list[int]:
        """Which of some ids the label shows, in their order."""
        counts = np.bincount(self.label.ravel(), minlength=256)
        return [id_ for id_ in ids if counts[id_]]


@dataclass(frozen=True)
class Shard:
    """The place of a part among those of its split: from 0, of how many."""

    split: str
    index: int
    count: int


class Format(ABC):
    """A format; the defaults are those of one that writes files of images alone.

    Args:
        classes: Names of classes in id order, background left out.

    Attributes:
        has_images: Whether images are written, too.
        names: Id → name of each class.
    """

    has_images = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.names: Mapping[int, str] = dict(enumerate(classes, start=1))

    @property
    def class_list(self) -> str:
        """A list of id, name and colour of all that masks hold, as JSON."""
        names = {BACKGROUND: BACKGROUND_NAME, **self.names, IGNORE: IGNORED_NAME}
        told = [{"id": id_, "name": name, "color": colour_of(id_)} for id_, name in names.items()]
        return json.dumps(told, indent=1, ensure_ascii=False)

    @abstractmethod
    def write(self, row: Row, place: Place) -> Record:
        """Write the files of an image; its mask, or what stands for it, last.

        Raises:
            UnnamedError: A file cannot have its name.
        """

    def pack(self, records: list[Record], shard: Shard, place: Place) -> list[Record]:
        """Write the file of a part; returns what documents need of its records."""
        return records

    @abstractmethod
    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """The files that are written last: path below OUT → text, piece by piece."""


def colour_of(id_: int) -> list[int]:
    """R, G, B of an id in the VOC palette."""
    return [int(level) for level in PALETTE[id_]]


def json_list(items: Iterable[str]) -> Iterator[str]:
    """A list of JSON texts as a text, one item a line."""
    between = "[\n"
    for item in items:
        yield between + item
        between = ",\n"
    yield "\n]" if between != "[\n" else "[]"
