"""COCO's instances, against its own library, and in the layouts of those who export them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from dcsp.config import CorpusSettings
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.names import ImageFiles
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.tag_tables import read_tags
from dcsp.errors import CorpusError
from dcsp.labels import TagMapper

NOTHING = ImageFiles("", ())


def instances(pairs: list[tuple[int, int]], images: int = 4, categories: int = 3) -> dict[str, Any]:
    """A file of instances: (image, category) each."""
    return {
        "images": [{"id": 10 + i, "file_name": f"{i:03d}.jpg"} for i in range(images)],
        "categories": [{"id": 5 * c + 1, "name": f"class {c}"} for c in range(categories)],
        "annotations": [
            {"id": number, "image_id": 10 + image, "category_id": 5 * category + 1}
            for number, (image, category) in enumerate(pairs)
        ],
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_instances_are_read_as_their_own_library_reads_them(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "instances_train2017.json"
    path.write_text(json.dumps(instances(pairs)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    expected = {
        image["file_name"]: {
            coco.loadCats(a["category_id"])[0]["name"]
            for a in coco.loadAnns(coco.getAnnIds(imgIds=key, iscrowd=None))
        }
        for key, image in coco.imgs.items()
    }
    told = read_tags(str(path), NOTHING)
    assert {image: tagged.tags for image, tagged in told.items()} == expected
    assert all(tagged.splits == {"train"} for tagged in told.values())


def test_a_download_of_coco_is_a_corpus(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    for name, pairs in (("train2017", [(0, 0), (0, 1), (1, 2)]), ("val2017", [(0, 2)])):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (8, 6)).save(tmp_path / name / f"{index:03d}.jpg")
        content = instances(pairs, images=2)
        if name == "val2017":
            content["annotations"] += [{"image_id": 99, "category_id": 1}]
            content["annotations"] += [{"image_id": 11, "category_id": 99}]
        (annotations / f"instances_{name}.json").write_text(json.dumps(content))
    settings = CorpusSettings(
        kind="folder",
        root=str(tmp_path),
        tags=tuple(str(path) for path in sorted(annotations.iterdir())),
        classes=("class 0", "class 1", "class 2"),
    )
    source = open_source(settings, seed=0)
    mapper = TagMapper(settings.classes, {})
    corpus, _, rejected = read_rows(source, source.list_rows().rows, mapper, settings)
    rows = {row["image_id"]: (row["split"], row["tags"]) for row in corpus.to_pylist()}
    assert rows == {
        "train2017/000": ("train", [1, 2]),
        "train2017/001": ("train", [3]),
        "val2017/000": ("val", [3]),
    }
    reasons = {row["image_id"]: row["reason"] for row in rejected.to_pylist()}
    assert reasons == {"val2017/001": "unknown_tag", "image 99": "missing"}


@pytest.mark.parametrize("text", ["[]", '{"images": []}', '{"images": 3, "categories": []}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "instances_x.json"
    path.write_text(text)
    with pytest.raises(CorpusError, match=r"instances_x\.json is none of COCO's instances"):
        read_tags(str(path), NOTHING)


Found = dict[str, tuple[set[str], set[str]]]
"""Image → its tags and splits."""


def found(root: Path, files: list[str], tables: dict[str, dict[str, Any]]) -> Found:
    """What the tables of a folder say of its images; nothing of the images is read."""
    told: Found = {}
    images = ImageFiles(str(root), files)
    for name, content in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        for image, tagged in read_tags(str(path), images).items():
            told[image] = (tagged.tags, tagged.splits)
    return told


def of_names(*names: str) -> dict[str, Any]:
    """A file of instances: each of these images shows class 0."""
    content = instances([(index, 0) for index in range(len(names))], images=len(names))
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    return content


LAYOUTS: dict[str, tuple[dict[str, tuple[str, ...]], dict[str, str]]] = {
    "COCO's": (
        {
            "annotations/instances_train2017.json": ("1.jpg",),
            "annotations/instances_val2017.json": ("1.jpg",),
        },
        {"train2017/1.jpg": "train", "val2017/1.jpg": "val"},
    ),
    "with the folder in file_name": (
        {"annotations/instances_train2017.json": ("train2017/1.jpg",)},
        {"train2017/1.jpg": "train"},
    ),
    "joined by hand, with the folder and without": (
        {"annotations/instances_train2017.json": ("train2017/1.jpg", "2.jpg")},
        {"train2017/1.jpg": "train", "train2017/2.jpg": "train"},
    ),
    "of people's keypoints": (
        {"annotations/person_keypoints_val2017.json": ("1.jpg",)},
        {"val2017/1.jpg": "val"},
    ),
    "in images": (
        {"annotations/instances_val2017.json": ("1.jpg",)},
        {"images/val2017/1.jpg": "val"},
    ),
    "Roboflow's": (
        {f"{split}/_annotations.coco.json": ("1.jpg",) for split in ("train", "valid", "test")},
        {"train/1.jpg": "train", "valid/1.jpg": "val", "test/1.jpg": "test"},
    ),
    "FiftyOne's": ({"labels.json": ("1.jpg",)}, {"data/1.jpg": ""}),
    "FiftyOne's, with splits": (
        {"train/labels.json": ("1.jpg",), "validation/labels.json": ("1.jpg",)},
        {"train/data/1.jpg": "train", "validation/data/1.jpg": "val"},
    ),
    "CVAT's": (
        {"annotations/instances_default.json": ("a/1.jpg",)},
        {"images/default/a/1.jpg": ""},
    ),
    "CVAT's, older": ({"annotations/instances_default.json": ("1.jpg",)}, {"images/1.jpg": ""}),
    "CVAT's, with subsets": (
        {f"annotations/instances_{name}.json": ("1.jpg",) for name in ("Train", "val")},
        {"images/Train/1.jpg": "train", "images/val/1.jpg": "val"},
    ),
    "from Windows": ({"result.json": ("images\\1.jpg",)}, {"images/1.jpg": ""}),
    "below the JSON file": (
        {"annotations/all.json": ("../images/1.jpg",)},
        {"images/1.jpg": ""},
    ),
    "with other cases": ({"labels.json": ("1.jpg",)}, {"data/1.JPG": ""}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_found_where_exports_put_them(tmp_path: Path, layout: str) -> None:
    tables, images = LAYOUTS[layout]
    told = found(tmp_path, [*images], {name: of_names(*n) for name, n in tables.items()})
    meant = ImageFiles(str(tmp_path), images).meant_by(told)
    splits = {meant[name][0]: "".join(told[name][1]) for name in told}
    assert splits == images
    assert all(tags == {"class 0"} for tags, _ in told.values())


def test_images_of_another_split_are_not_taken_for_those_that_are_gone(tmp_path: Path) -> None:
    tables = {"annotations/instances_val.json": of_names("1.jpg")}
    assert "images/train/1.jpg" not in found(tmp_path, ["images/train/1.jpg"], tables)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("testimonials.json", ""),
        ("trainers.json", ""),
        ("valley_photos.json", ""),
        ("instances_trainval2017.json", ""),
        ("dataset.json", ""),
        ("instances_valid.json", "val"),
        ("dev.json", "val"),
        ("eval-2.json", "val"),
        ("valset.json", "val"),
        ("Train.json", "train"),
        ("testA.json", "test"),
        ("lvis_v1_val.json", "val"),
        ("valid/train.json", "train"),
        ("val2017/labels.json", "val"),
        ("latest/labels.json", ""),
    ],
)
def test_a_split_is_a_word_of_the_name_and_not_its_beginning(
    tmp_path: Path, name: str, split: str
) -> None:
    told = found(tmp_path, ["1.jpg"], {name: of_names("1.jpg")})
    assert told == {"1.jpg": ({"class 0"}, {split} - {""})}


def test_a_folder_above_the_root_names_no_split(tmp_path: Path) -> None:
    root = tmp_path / "test"
    root.mkdir()
    assert found(root, ["1.jpg"], {"labels.json": of_names("1.jpg")})["1.jpg"][1] == set()


@pytest.mark.parametrize("place", ["images", "categories"])
def test_an_id_that_means_two_things_is_refused(tmp_path: Path, place: str) -> None:
    content = instances([(0, 0)])
    content[place][1]["id"] = content[place][0]["id"]
    with pytest.raises(CorpusError, match=r"labels\.json: the id \d+ means '.+' and '.+'"):
        found(tmp_path, [], {"labels.json": content})


def test_entries_that_repeat_one_another_add_up(tmp_path: Path) -> None:
    content = instances([(0, 0), (1, 1)], images=2)
    content["images"] += [content["images"][0], {"id": 99, "file_name": "000.jpg"}]
    content["categories"] += [content["categories"][0], {"id": 98, "name": "class 2"}]
    content["annotations"] += [{"image_id": 99, "category_id": 98}]
    told = found(tmp_path, ["000.jpg", "001.jpg"], {"labels.json": content})
    assert {image: tags for image, (tags, _) in told.items()} == {
        "000.jpg": {"class 0", "class 2"},
        "001.jpg": {"class 1"},
    }


def test_ids_may_be_written_as_text(tmp_path: Path) -> None:
    content = instances([(0, 0)], images=1)
    content["annotations"] = [{"image_id": "10", "category_id": "1"}]
    assert found(tmp_path, ["000.jpg"], {"a.json": content})["000.jpg"][0] == {"class 0"}
    content["images"] += [{"id": "10", "file_name": "001.jpg"}]
    with pytest.raises(CorpusError, match=r"the id 10 means '000\.jpg' and '001\.jpg'"):
        found(tmp_path, [], {"a.json": content})


def test_urls_are_left_as_they_are(tmp_path: Path) -> None:
    tables = {"instances_train.json": of_names("https://x.org/train/1.jpg", "2.jpg")}
    assert {*found(tmp_path, ["train/2.jpg"], tables)} == {
        "https://x.org/train/1.jpg",
        "train/2.jpg",
    }
