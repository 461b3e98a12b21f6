"""Masks are compared with tags: a wrong order of ids is found, missing and wrong tags are borne."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.catalogue import CATALOGUE_COLUMNS
from dcsp.corpus.mask_fit import judge_masks, mask_notes
from dcsp.corpus.reading import check_mask
from dcsp.corpus.sources.voc import VOCSource
from dcsp.images.decode import decode_levels
from dcsp.labels import VOC_CLASSES
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import catalogue_file
from dcsp.tables.snapshot import ALL_MASKS, Masks
from tests.corpus.shelf import SETTINGS, Shelf, grown, ingest, shelf
from tests.photographs import PHOTOGRAPHS, needs_photographs

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Tags of each image, and ids that its mask shows."""
CLASSES = ("cat", "dog", "cow", "hen")


def judged(
    pairs: Pairs,
    classes: Sequence[str] = CLASSES,
    *,
    is_named: bool = False,
    distractors: int = 0,
) -> Masks:
    rows = {
        "image_id": [f"i{number}" for number in range(len(pairs))],
        "tags": pa.array([tags for tags, _ in pairs], pa.list_(pa.uint8())),
        "mask": pa.array([ids for _, ids in pairs], pa.list_(pa.uint8())),
    }
    return judge_masks(pa.table(rows), classes, is_named=is_named, distractors=distractors)


def scenes(count: int = 60, most: int = 2, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Images of one to ``most`` of the four classes, tagged as their masks show them."""
    rng = np.random.default_rng(seed)
    sets = [
        sorted(rng.choice(4, rng.integers(1, most + 1), replace=False) + 1) for _ in range(count)
    ]
    return [([*map(int, found)], [*map(int, found)]) for found in sets]


def renamed(pairs: Pairs, ids: Mapping[int, int]) -> Pairs:
    return [(tags, [ids.get(i, i) for i in shown]) for tags, shown in pairs]


def test_masks_that_show_their_tags_fit() -> None:
    assert judged(scenes()) == Masks(usable=60)


@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_missing_tags_are_normal(kept: float) -> None:
    rng = np.random.default_rng(1)
    given = [([tag for tag in tags if rng.random() < kept], ids) for tags, ids in scenes()]
    assert not judged(given).unfit
    assert not judged([(tags[:1], ids) for tags, ids in scenes(most=4)]).unfit


def test_tags_of_distractors_that_no_mask_shows_do_not_count() -> None:
    classes = (*CLASSES, "rail", "sea", "sky", "road")
    pairs = [([*tags, 5, 6, 7, 8], ids) for tags, ids in scenes(most=1)]
    assert judged(pairs, classes).unfit == (ALL_MASKS,)
    assert judged(pairs, classes, distractors=4) == Masks(usable=60)
    swapped = renamed([(tags[:1], ids) for tags, ids in pairs], {1: 5})
    shown = [([5] if ids == [5] else tags, ids) for tags, ids in swapped]
    assert not judged(shown, classes, distractors=4).unfit
    assert judged(swapped, classes, distractors=4).unfit, "one that masks show is judged"


def test_half_of_the_tags_may_be_wrong() -> None:
    rng = np.random.default_rng(1)
    given = [
        ([tag if rng.random() < 0.5 else int(rng.integers(1, 5)) for tag in tags], ids)
        for tags, ids in scenes(200)
    ]
    assert not judged(given).unfit


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("ids", [{1: 2, 2: 3, 3: 4, 4: 1}, {1: 4, 2: 3, 3: 2, 4: 1}])
def test_ids_in_another_order_are_found_and_named(ids: Mapping[int, int], most: int) -> None:
    found = judged(renamed(scenes(most=most), ids))
    assert found.unfit == (ALL_MASKS,) and found.left_out == found.usable == 60
    order = [CLASSES[tag - 1] for _, tag in sorted((i, tag) for tag, i in ids.items())]
    assert f"then set corpus.mask_classes=[{', '.join(order)}]" in found.told
    assert "60 of 60 masks left out of all figures" in found.told and "tagged" in found.told


def test_two_ids_that_were_swapped_cost_the_masks_that_show_them() -> None:
    pairs = scenes(most=1) + [([1], [1])] * 60
    found = judged(renamed(pairs, {3: 4, 4: 3}))
    assert found.unfit == (3, 4)
    assert found.left_out == sum(tags in ([3], [4]) for tags, _ in pairs)
    assert "3 is hen, 4 is cow: then set corpus.mask_classes=[cat, dog, hen, cow]" in found.told


def test_masks_without_classes_do_not_fit() -> None:
    found = judged([(tags, []) for tags, _ in scenes()])
    assert found.unfit == (ALL_MASKS,) and "its mask: nothing but 0 and 255" in found.told


def test_masks_of_instances_do_not_fit() -> None:
    rng = np.random.default_rng(2)
    pairs = [(tags, range(1, int(rng.integers(2, 5)))) for tags, _ in scenes(200)]
    found = judged([(tags, [*ids]) for tags, ids in pairs])
    assert found.unfit == (ALL_MASKS,) and "not of instances" in found.told


def test_one_class_that_all_images_show_fits() -> None:
    assert not judged([([1], [1])] * 9, ("cat",)).unfit
    assert not judged([([1], [1, 2]), ([2], [1, 2])] * 9, ("sky", "sea")).unfit
    assert judged([([1], [])] * 9, ("cat",)).unfit == (ALL_MASKS,)


def test_few_masks_and_untagged_images_say_nothing() -> None:
    assert not judged([([1], [2])] * 4).unfit
    assert judged([([], [2])] * 9) == Masks(usable=9)
    assert judged([]) == Masks()


def test_where_ids_were_named_the_names_are_to_be_looked_at() -> None:
    found = judged(renamed(scenes(), {1: 2, 2: 1, 3: 4, 4: 3}), is_named=True)
    assert "name classes in the order of their ids in corpus.mask_classes" in found.told


def of(class_id: int) -> bytes:
    return encode_labels(np.full((4, 5), class_id, np.uint8))


def told_wrong(count: int = 8) -> Shelf:
    """Half cats and half dogs, with the ids of the other ones in their masks."""
    source = shelf(train=count, val=0)
    tags = {name: ("cat",) if i % 2 else ("dog",) for i, name in enumerate(source.images)}
    masks = {name: of(2 if tags[name] == ("cat",) else 1) for name in source.images}
    return replace(source, tags=tags, masks=masks)


def test_an_ingest_tells_of_masks_that_do_not_fit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    snapshot = ingest(store, told_wrong())
    assert (snapshot.masks.unfit, snapshot.masks.left_out) == ((ALL_MASKS,), 8)
    (note,) = mask_notes(store, snapshot)
    assert "corpus.mask_classes=[dog, cat]" in note
    right = SETTINGS.model_copy(update={"mask_classes": ("dog", "cat")})
    assert ingest(store, told_wrong(), right).masks == Masks(usable=8)


def test_masks_that_cannot_be_used_are_told_with_an_example(tmp_path: Path) -> None:
    source = told_wrong()
    masks = {name: of(9) for name in source.masks}
    store = Store(tmp_path)
    (note,) = mask_notes(store, ingest(store, replace(source, masks=masks)))
    assert note.startswith("8 masks cannot be used, such as that of shelf/t")
    assert "it holds [9], not ids 0 to 2 or 255" in note and "; 0 can; " in note


def test_what_masks_show_stays_while_a_corpus_grows(tmp_path: Path) -> None:
    store, source = Store(tmp_path), told_wrong()
    ingest(store, source)
    more = grown(source, "t90", "t91")
    touched = replace(more, times={"t0": 1})  # read once more, and found the same
    assert ingest(store, touched).masks.left_out == 8
    fewer = {name: more.images[name] for name in [*more.images][4:]}
    assert ingest(store, replace(touched, images=fewer)).masks == Masks(usable=4)


def test_of_catalogues_of_earlier_versions_no_mask_is_judged(tmp_path: Path) -> None:
    store, source = Store(tmp_path), told_wrong()
    file = catalogue_file(ingest(store, source).fingerprint)
    store.write_table(file, store.read_table(file, CATALOGUE_COLUMNS))
    grew = replace(grown(source, "t90"), masks=source.masks | {"t90": of(1)})
    assert ingest(store, grew).masks == Masks(usable=1)


@pytest.fixture(scope="module")
def photographs() -> list[tuple[list[int], list[int]]]:
    """Tags of VOC's lists, and what its masks show."""
    source = VOCSource(str(PHOTOGRAPHS), ("train", "val"))
    mapper = CorpusSettings(kind="voc", root=str(PHOTOGRAPHS)).mapper()
    found = []
    for row in source.list_rows().rows:
        if data := source.read_mask(row):
            with Image.open(io.BytesIO(data)) as image:
                size = image.size[::-1]
            found.append(
                (mapper.map_tags(row.tags)[0], check_mask(data, decode_levels(data, size), 20)[1])
            )
    return found


SWAPS: list[Mapping[int, int]] = [{a: b, b: a} for a, b in ((9, 11), (9, 18), (8, 12), (15, 14))]


@needs_photographs
def test_masks_of_voc_fit_until_their_ids_are_others(
    photographs: list[tuple[list[int], list[int]]],
) -> None:
    def look(ids: Mapping[int, int]) -> Masks:
        return judged(renamed(photographs, ids), VOC_CLASSES)

    assert not look({}).unfit
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(20) + 1
        assert look({i: int(order[i - 1]) for i in range(1, 21)}).unfit == (ALL_MASKS,)
    assert look({i: i % 20 + 1 for i in range(1, 21)}).unfit == (ALL_MASKS,)
    for swap in SWAPS:  # chairs stand at tables: even these are told apart
        assert look(swap).unfit == tuple(sorted(swap)) and 0 < look(swap).left_out < 580


@needs_photographs
@pytest.mark.parametrize(
    "given",
    [
        lambda tags, rng: [tag for tag in tags if rng.random() < 0.5],
        lambda tags, rng: tags[:1],
        lambda tags, rng: [tag if rng.random() < 0.5 else int(rng.integers(1, 21)) for tag in tags],
    ],
    ids=["half are missing", "one an image", "half are wrong"],
)
def test_masks_of_voc_fit_whatever_tags_are_missing(
    photographs: list[tuple[list[int], list[int]]],
    given: Callable[[list[int], np.random.Generator], list[int]],
) -> None:
    rng = np.random.default_rng(0)
    assert not judged([(given(tags, rng), ids) for tags, ids in photographs], VOC_CLASSES).unfit
