"""Tables of tags; COCO's instances against its own library."""

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
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.tag_tables import read_tags, split_tags
from dcsp.errors import CorpusError
from dcsp.labels import TagMapper


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
    told = read_tags(str(path), ())
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
    corpus, _, rejected = read_rows(source, source.list_rows(), mapper, settings)
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
        read_tags(str(path), ())


@pytest.mark.parametrize("name", ["instances_x.json", "tags.jsonl"])
def test_brackets_without_end_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_tags(str(tmp_path / name), ())


def test_cells_are_split_at_commas_and_semicolons() -> None:
    assert split_tags(" cat; potted plant ,,dog") == ["cat", "potted plant", "dog"]
    assert split_tags(["a,b", 3, None]) == ["a,b", "3"]
    assert split_tags(None) == []
