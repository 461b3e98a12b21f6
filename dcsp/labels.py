"""Class names, class ids, the VOC palette, and the way from a written tag to a class id.

Ids are the position of a name in the class list, from 1; 0 is background and 255 is ignored. The
order of ids never depends on the order in which tags are met.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.errors import ConfigError

BACKGROUND = 0
"""Class id of everything that is none of the classes."""
IGNORE = 255
"""Label of pixels that neither training nor evaluation looks at."""
MAX_CLASSES = 254
"""Most classes a label map of one byte can hold beside background and ignore."""


def count_pairs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of two label maps by their two values: (256, 256) int64, rows of ``one``.

    Args:
        one: HW uint8.
        other: HW uint8 of the same shape.
    """
    pairs = one.astype(np.uint16) << 8 | other
    return np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)


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


def hide_labels(labels: NDArray[np.uint8], classes: int, value: int) -> NDArray[np.uint8]:
    """Labels (HW uint8) without distractors, whose ids lie beyond the C classes.

    Args:
        labels: Ids, and perhaps 255.
        classes: C.
        value: What their pixels become.
    """
    shown: NDArray[np.uint8] = np.where(
        (labels > classes) & (labels != IGNORE), np.uint8(value), labels
    )
    return shown


_POSITION = "corpus.classes[{}]"


def tag_of_position(position: int) -> str:
    """The tag that stands for a class by its position in ``corpus.classes``, from 0.

    >>> TagMapper(("cat", "dog")).lookup(tag_of_position(1))
    2
    """
    return _POSITION.format(position)


class TagMapper:
    """Maps written tags to class ids.

    Two spellings are the same when they are equal after Unicode's NFKC, without spaces, hyphens and
    underscores, and without regard to case. A tag that no class or synonym is spelled like is
    looked up once more as an English plural: without a final ``s`` (unless ``ss``), then without
    ``es``, then with ``y`` for ``ies``. So ``Traffic-Lights`` is a ``traffic_light``; a synonym
    goes first where that is wrong.

    Attributes:
        classes: Class names in id order, the first having id 1.
    """

    def __init__(
        self, classes: Sequence[str], synonyms: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """Build the table of known spellings.

        Args:
            classes: Class names in id order, background left out.
            synonyms: Class name → tags that mean it too.

        Raises:
            ConfigError: There are no or too many classes, two names mean the same, or a synonym is
                empty, is given to no class or to two, or is itself a class.
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
        self._names = dict(self._ids)
        self._positions = {_key(tag_of_position(i)): i + 1 for i in range(len(self.classes))}
        for target, words in (synonyms or {}).items():
            for word in words:
                self._add(word, target)

    def _add(self, word: str, target: str) -> None:
        class_id = self._names.get(_key(target))
        if class_id is None:
            raise ConfigError(
                f"corpus.synonyms maps {word!r} to {target!r}, which is not in corpus.classes."
            )
        if not _key(word):
            raise ConfigError(f"corpus.synonyms maps an empty tag to {target!r}: drop it.")
        if self._ids.setdefault(_key(word), class_id) != class_id:
            taken = self.classes[self._ids[_key(word)] - 1]
            raise ConfigError(
                f"corpus.synonyms maps {word!r} to {target!r}, but it already means {taken!r}."
            )

    def lookup(self, tag: str) -> int | None:
        """The class id of a tag, from 1, or None where it means no class."""
        key = _key(tag)
        for spelling in (key, *_singulars(key)):
            if spelling in self._ids:
                return self._ids[spelling]
        return self._positions.get(key)

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


def _singulars(key: str) -> Iterator[str]:
    """What an English word can be the plural of."""
    if key.endswith("s") and not key.endswith("ss"):
        yield key[:-1]
    if key.endswith("es"):
        yield key[:-2]
    if key.endswith("ies"):
        yield f"{key[:-3]}y"
