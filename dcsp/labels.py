"""Class names, class ids, the VOC palette, and the way from a written tag to a class id.

Ids are the position of a name in the class list, from 1; 0 is background and 255 is ignored. The
order of ids never depends on the order in which tags are met.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.errors import ConfigError

BACKGROUND = 0
"""Class id of everything that is none of the classes."""
IGNORE = 255
"""Label of pixels that neither training nor evaluation looks at."""
MAX_CLASSES = 254
"""Most classes a label map of one byte can hold beside background and ignore."""

VOC_CLASSES: tuple[str, ...] = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 20 classes of PASCAL VOC in id order: the first has id 1."""

SCENE_CLASSES: tuple[str, ...] = ("ball", "crate", "starfish", "mushroom", "fish", "cactus")
"""The classes of the generated scenes in id order: the first has id 1."""


def voc_palette() -> NDArray[np.uint8]:
    """The colour map of PASCAL VOC: the bits of an id, dealt to R, G, B from the highest bit down.

    Returns:
        (256, 3) uint8 RGB; row 0 is black, row 255 (ignore) is cream (224, 224, 192).
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for digit in range(8):  # three bits of the id make one bit of each channel
        for channel in range(3):
            bit = (ids >> (3 * digit + channel)) & 1
            palette[:, channel] |= (bit << (7 - digit)).astype(np.uint8)
    return palette


class TagMapper:
    """Maps written tags to class ids, whatever their case, spaces, hyphens and underscores.

    Attributes:
        classes: Class names in id order, the first having id 1.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        """Build the table of known spellings.

        Args:
            classes: Class names in id order, background left out.
            aliases: Other spelling → class name.

        Raises:
            ConfigError: There are no or too many classes, two names mean the same, or an alias
                is empty, names no class, or is itself a class.
        """
        if not 1 <= len(classes) <= MAX_CLASSES:
            raise ConfigError(f"corpus.classes has {len(classes)} names: give 1 to {MAX_CLASSES}.")
        self.classes = tuple(classes)
        self._ids: dict[str, int] = {}
        for class_id, name in enumerate(self.classes, start=1):
            key = _key(name)
            if not key:
                raise ConfigError(f"corpus.classes holds the empty name {name!r}: give it letters.")
            if key in self._ids:
                other = self.classes[self._ids[key] - 1]
                raise ConfigError(
                    f"corpus.classes holds {other!r} and {name!r}, which mean the same: drop one."
                )
            self._ids[key] = class_id
        self._add_aliases(aliases or {})

    def _add_aliases(self, aliases: Mapping[str, str]) -> None:
        names = dict(self._ids)
        for alias, target in aliases.items():
            class_id = names.get(_key(target))
            if class_id is None:
                raise ConfigError(
                    f"corpus.aliases maps {alias!r} to {target!r}, which is not in corpus.classes."
                )
            if not _key(alias):
                raise ConfigError(f"corpus.aliases maps an empty tag to {target!r}: drop it.")
            if self._ids.setdefault(_key(alias), class_id) != class_id:
                taken = self.classes[self._ids[_key(alias)] - 1]
                raise ConfigError(
                    f"corpus.aliases maps {alias!r} to {target!r}, but it already means {taken!r}."
                )

    def lookup(self, tag: str) -> int | None:
        """The class id of a tag, from 1, or None where no class or alias is spelled so."""
        return self._ids.get(_key(tag))

    def map_tags(self, tags: Iterable[str]) -> tuple[list[int], list[str]]:
        """Split tags into what is known and what is not.

        Returns:
            The known class ids, sorted and unique, and the unknown tags, sorted and unique.
        """
        ids: set[int] = set()
        unknown: set[str] = set()
        for tag in tags:
            class_id = self.lookup(tag)
            if class_id is None:
                unknown.add(tag)
            else:
                ids.add(class_id)
        return sorted(ids), sorted(unknown)


def _key(tag: str) -> str:
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", tag)).casefold()
