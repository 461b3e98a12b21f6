"""A folder of palette or grey PNG files of class ids, and the list of what their ids mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.corpus.sources.files import stem
from dcsp.corrections.drawn import Drawn, Ids, Size, no_label
from dcsp.errors import ImageError
from dcsp.images.isolated import decode_levels
from dcsp.labels import IGNORE

CLASSES_FILE = "classes.txt"
"""Beside the masks: the name of each id, one a line, from 0 on."""


def classes_text(names: Sequence[str]) -> str:
    """What the file says of ids from 0 on."""
    return "".join(f"{name}\n" for name in names)


def of_folder(files: Mapping[str, bytes]) -> Iterator[Drawn]:
    """The masks of a folder, each called like its image.

    Without a list of names, ids are those of the config's classes.

    Args:
        files: Name → content.

    Raises:
        ValueError: The list of names is none.
    """
    names = None
    if CLASSES_FILE in files:
        names = files[CLASSES_FILE].decode("utf-8-sig").splitlines()
        if not 1 <= len(names) <= IGNORE:
            raise ValueError(f"{CLASSES_FILE} has {len(names)} lines")
    for name, data in files.items():
        if name != CLASSES_FILE:
            yield _drawn(stem(name), data, names)


def _drawn(image: str, data: bytes, names: Sequence[str] | None) -> Drawn:
    def paint(size: Size, ids: Ids) -> NDArray[np.uint8]:
        (levels,) = decode_levels([data], [size], size[0] * size[1])
        if isinstance(levels, ImageError):
            raise no_label(levels)
        meaning = range(ids.classes + 1) if names is None else [ids(name) for name in names]
        strange = np.setdiff1d(levels, [*range(len(meaning)), IGNORE])
        if strange.size:
            raise ValueError(f"it holds {strange[:5].tolist()}, not ids 0 to {len(meaning) - 1}")
        table = np.full(256, IGNORE, np.uint8)
        table[: len(meaning)] = meaning
        return table[levels]

    return Drawn(image, paint, _size(data))


def _size(data: bytes) -> Size | None:
    """What the header of a PNG file says (PNG specification, 11.2.2)."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
