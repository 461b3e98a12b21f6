"""Class ids, palette and tag spelling."""

from __future__ import annotations

import numpy as np
import pytest

from dcsp.errors import ConfigError
from dcsp.labels import SCENE_CLASSES, VOC_CLASSES, TagMapper, tag_of_position, voc_palette


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


def test_synonyms_and_unknown_tags() -> None:
    mapper = TagMapper(VOC_CLASSES, {"dog": ["Puppy dog", "dog"], "CAT": ["kitten"]})
    assert mapper.map_tags(["kitten", "dog", "puppy_dog", "unicorn", "Cat", "axe"]) == (
        [8, 12],
        ["axe", "unicorn"],
    )
    assert mapper.lookup("unicorn") is None


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("dogs", "dog"),
        ("Buses", "bus"),
        ("bus", "bus"),
        ("ponies", "pony"),
        ("traffic-LIGHTS", "traffic light"),
        ("boxes", "box"),
        ("hounds", "dog"),
        ("gloves", "gloves"),
        ("glove", "glove"),
        ("glass", None),
        ("s", None),
        ("dogss", None),
    ],
)
def test_a_plural_means_its_singular_where_nothing_is_called_so(tag: str, name: str | None) -> None:
    classes = ("dog", "bus", "pony", "traffic light", "box", "gloves", "glove", "glas")
    mapper = TagMapper(classes, {"dog": ["hound"]})
    found = mapper.lookup(tag)
    assert (found and classes[found - 1]) == name


def test_a_synonym_goes_before_a_plural() -> None:
    assert TagMapper(("new", "paper")).lookup("news") == 1
    assert TagMapper(("new", "paper"), {"paper": ["news"]}).lookup("news") == 2


def test_a_class_may_have_many_synonyms_of_several_words() -> None:
    synonyms = {"dog": ["puppy", "Canis familiaris"], "CAT": ["kitty", "puss in boots"]}
    mapper = TagMapper(("cat", "dog"), synonyms)
    tags = ["canis_familiaris", "PUPPIES", "kitty", "kitties", "boots"]
    assert [mapper.lookup(tag) for tag in tags] == [2, 2, 1, 1, None]


def test_a_class_can_be_named_by_its_position() -> None:
    mapper = TagMapper(("cat", "dog"))
    assert [mapper.lookup(tag_of_position(i)) for i in range(3)] == [1, 2, None]


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ({"dog": ["cat"]}, "already means 'cat'"),
        ({"dog": ["pet"], "cat": ["Pet"]}, " 'Pet' to 'cat', but it already means 'dog'"),
        ({"cow": ["calf"]}, "'calf' to 'cow', which is not in corpus.classes"),
        ({"dog": [" "]}, " an empty tag to 'dog'"),
    ],
)
def test_contradicting_synonyms_are_refused(synonyms: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=f"corpus.synonyms maps.*{message}"):
        TagMapper(("cat", "dog"), synonyms)


@pytest.mark.parametrize(
    ("classes", "message"),
    [((), "has 0 names"), (("cat", "C at"), "mean the same"), (("cat", " "), "empty name")],
)
def test_contradicting_classes_are_refused(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TagMapper(classes)
