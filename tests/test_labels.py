"""Class ids, palette and tag spelling."""

from __future__ import annotations

import numpy as np
import pytest

from dcsp.errors import ConfigError
from dcsp.labels import SCENE_CLASSES, VOC_CLASSES, TagMapper, voc_palette


def test_the_palette_is_the_one_of_the_voc_devkit() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128)}
    known |= {20: (0, 64, 128), 255: (224, 224, 192)}
    for class_id, colour in known.items():
        assert tuple(palette[class_id]) == colour
    assert len({tuple(row) for row in palette.tolist()}) == 256


def test_voc_ids_are_alphabetical_and_scenes_have_six_classes() -> None:
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert len(set(SCENE_CLASSES)) == 6


@pytest.mark.parametrize(
    "tag", ["tvmonitor", "TV monitor", " tv_Monitor ", "TV-MONITOR", "ｔｖmonitor"]
)
def test_spelling_does_not_matter(tag: str) -> None:
    assert TagMapper(VOC_CLASSES).lookup(tag) == 20


def test_aliases_and_unknown_tags() -> None:
    mapper = TagMapper(VOC_CLASSES, {"Puppy dog": "dog", "kitten": "CAT", "dog": "dog"})
    assert mapper.map_tags(["kitten", "dog", "puppy_dog", "unicorn", "Cat", "axe"]) == (
        [8, 12],
        ["axe", "unicorn"],
    )
    assert mapper.lookup("unicorn") is None


@pytest.mark.parametrize(
    ("classes", "aliases", "message"),
    [
        ((), {}, "has 0 names"),
        (("cat", "C at"), {}, "mean the same"),
        (("cat", " "), {}, "empty name"),
        (("cat",), {"kitty": "dog"}, "not in corpus.classes"),
        (("cat", "dog"), {"dog": "cat"}, "already means 'dog'"),
        (("cat", "dog"), {"pet": "cat", "PET": "dog"}, "already means 'cat'"),
        (("cat",), {"_": "cat"}, "empty tag"),
    ],
)
def test_contradictions_are_refused(
    classes: tuple[str, ...], aliases: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TagMapper(classes, aliases)
