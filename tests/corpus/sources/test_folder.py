"""Folders of images with a table of tags, in every form such tables have."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import select_rows
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.sources.open import open_source
from dcsp.errors import CorpusError
from dcsp.inspection.destination import EXPORT, PREDICT, Writer, mark_folder
from dcsp.labels import VOC_CLASSES, TagMapper
from dcsp.store.store import Store
from tests.corpus.conftest import Deny

SPLITS = ("train", "val")
MAPPER = TagMapper(("cat", "dog"))


def by_id(source: FolderSource) -> dict[str, SourceRow]:
    return {row.image_id: row for row in source.list_rows().rows}


CSV = 'image,tags\na.jpg,cat\n./pets/b,"cat, dog"\npets/b.PNG,bird;\npets\\deep\\c.webp,\n'
JSONL = (
    '{"image": "a.jpg", "tags": ["cat"]}\n\n{"image": "pets/b", "tags": "cat;dog"}\n'
    '{"image": "pets/b.PNG", "tags": ["bird", null, " "]}\n{"image": "pets/deep/c", "tags": null}\n'
)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tag_tables_say_the_same_in_every_form(root: Path, kind: str) -> None:
    table = root / f"tags.{kind}"
    if kind == "parquet":
        tags = [["cat"], ["cat", "dog"], ["bird"], None]
        images = ["a.jpg", "pets/b", "pets/b.PNG", "pets/deep/c"]
        pq.write_table(pa.table({"image": images, "tags": tags}), table)
    else:
        table.write_text(CSV if kind == "csv" else JSONL, encoding="utf-8-sig")
    rows = by_id(FolderSource(str(root), SPLITS))
    assert {name: row.tags for name, row in rows.items()} == {
        "a": ("cat",),
        "pets/b": ("bird", "cat", "dog"),
        "pets/deep/c": (),
    }
    assert {row.split for row in rows.values()} == {"train"}


def test_images_without_a_table_have_no_tags(root: Path) -> None:
    rows = by_id(FolderSource(str(root), SPLITS))
    assert {name: row.tags for name, row in rows.items()} == {
        "a": (),
        "pets/b": (),
        "pets/deep/c": (),
    }


def test_splits_and_rows_without_an_image(root: Path) -> None:
    (root / "tags.csv").write_text(
        "image,tags,split\na.jpg,cat,val\npets/b,dog,Train\npets/deep/c,cat,test\n"
        "gone.jpg,cat,\nnowhere,dog,train\n../a.jpg,cat,train\n"
    )
    source = FolderSource(str(root), SPLITS)
    rows = by_id(source)
    assert {name: row.split for name, row in rows.items()} == {
        "a": "val",
        "pets/b": "train",
        "gone": "train",
        "nowhere": "train",
        "../a": "train",
    }
    assert set(by_id(FolderSource(str(root), ("val",)))) == {"a"}
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root))
    corpus, _, rejected = read_rows(source, list(rows.values()), MAPPER, settings)
    assert sorted(corpus["image_id"].to_pylist()) == ["a", "pets/b"]
    assert {r["image_id"]: r["reason"] for r in rejected.to_pylist()} == {
        "gone": "missing",
        "nowhere": "missing",
        "../a": "invalid_id",
    }


@pytest.mark.parametrize("table", ["image,tags,split\na,fish,val\npets/b,cat,test\n", "broken"])
def test_without_tags_every_image_is_listed_whatever_a_table_says(root: Path, table: str) -> None:
    (root / "tags.csv").write_text(table)
    source = FolderSource(str(root), ("train",), tagged=False)
    rows = by_id(source)
    assert {name: (row.split, row.tags) for name, row in rows.items()} == {
        name: ("train", ()) for name in ("a", "pets/b", "pets/deep/c")
    }
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root))
    corpus, _, rejected = read_rows(source, list(rows.values()), MAPPER, settings)
    assert (corpus.num_rows, rejected.num_rows) == (3, 0)


def test_splits_go_by_other_names_and_unknown_ones_are_rejected(root: Path) -> None:
    (root / "tags.csv").write_text(
        "image,tags,split\na,cat, Validation\npets/b,cat,training\npets/b.PNG,dog, \n"
        "pets/deep/c,cat,vall\n"
    )
    source = FolderSource(str(root), SPLITS)
    rows = by_id(source)
    assert {name: row.split for name, row in rows.items()} == {
        "a": "val",
        "pets/b": "train",
        "pets/deep/c": "vall",
    }
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root))
    _, _, rejected = read_rows(source, list(rows.values()), MAPPER, settings)
    (row,) = rejected.to_pylist()
    assert (row["image_id"], row["reason"]) == ("pets/deep/c", "unknown_split")
    assert "'vall' is none of train, val and test" in row["message"]


@pytest.mark.parametrize("other", ["val", "test", "vall"])
def test_an_image_of_two_splits_is_rejected_whichever_is_wanted(root: Path, other: str) -> None:
    (root / "tags.csv").write_text(f"image,tags,split\na,cat,train\na.jpg,cat,{other}\n")
    for wanted in (("train",), SPLITS):
        row = by_id(FolderSource(str(root), wanted))["a"]
        assert f"['{min('train', other)}', " in row.problem


def test_one_image_in_two_splits_is_rejected(root: Path) -> None:
    (root / "tags.csv").write_text("image,tags,split\na,cat,val\na.jpg,dog,train\n")
    source = FolderSource(str(root), SPLITS)
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root))
    _, _, rejected = read_rows(source, [by_id(source)["a"]], MAPPER, settings)
    assert rejected["reason"].to_pylist() == ["unreadable_tags"]
    assert "'train', 'val'" in rejected["message"][0].as_py()


def test_two_files_of_one_id_are_a_duplicate(root: Path) -> None:
    Image.new("RGB", (8, 6)).save(root / "a.png")
    rows, rejected = select_rows(FolderSource(str(root), SPLITS).list_rows().rows)
    assert len(rows) == 3
    assert rejected["uri"].to_pylist() == [f"{root}/a.png"]


def test_masks_lie_beside_and_are_no_images(root: Path) -> None:
    masks = root / "masks"
    (masks / "pets").mkdir(parents=True)
    Image.fromarray(np.full((6, 8), 2, np.uint8)).save(masks / "pets/b.png")
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root), masks=str(masks))
    source = pickle.loads(pickle.dumps(open_source(settings, seed=0)))
    rows = source.list_rows().rows
    assert [row.image_id for row in rows] == ["a", "pets/b", "pets/deep/c"]
    _, truth, _ = read_rows(source, rows, MAPPER, settings)
    assert truth["status"].to_pylist() == ["skipped", "ok", "skipped"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tags.csv", "file,labels\na,cat\n", "needs the columns"),
        ("tags.jsonl", '{"image": "a"}\n', "needs the columns"),
        ("tags.jsonl", "[1]\n", "is no JSON object"),
        ("tags.jsonl", "{broken\n", "cannot be read"),
        ("tags.parquet", "no parquet", "no readable Parquet file"),
        ("tags.csv", "image,tags\n\ud800,cat\n", "cannot be read"),
        ("tags.txt", "image,tags\n", "must end in"),
        ("tags.csv", "image,tags\n", "has no rows"),
    ],
)
def test_bad_tables_are_explained(root: Path, name: str, text: str, message: str) -> None:
    (root / name).write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(CorpusError, match=message):
        FolderSource(str(root), SPLITS, (str(root / name),)).list_rows()


def test_missing_places_are_explained(root: Path) -> None:
    (root / "empty").mkdir()
    for source, message in [
        (FolderSource(str(root / "nowhere"), SPLITS), "corpus.root=.*is not there"),
        (FolderSource(str(root / "empty"), SPLITS), "holds no images"),
        (FolderSource(str(root), SPLITS, (str(root / "no.csv"),)), "corpus.tags=.*is not there"),
        (FolderSource(str(root), SPLITS, (), str(root / "no")), "corpus.masks=.*is not there"),
    ]:
        with pytest.raises(CorpusError, match=message):
            source.list_rows()


def test_files_that_may_not_be_read_cost_their_row_alone(root: Path, deny: Deny) -> None:
    masks = root / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(masks / "a.png")
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root), masks=str(masks))
    source = open_source(settings, seed=0)
    deny("pets/b.PNG")
    deny("masks/a.png")
    corpus, truth, rejected = read_rows(source, source.list_rows().rows, MAPPER, settings)
    assert corpus["image_id"].to_pylist() == ["a", "pets/deep/c"]
    assert truth["status"].to_pylist() == ["error", "skipped"]
    lost = {r["image_id"]: r["reason"] for r in rejected.to_pylist() if r["stage"] == "read"}
    assert lost == {"pets/b": "unreadable"}


def test_a_tag_table_that_may_not_be_read_is_told(root: Path, deny: Deny) -> None:
    (root / "tags.csv").write_text("image,tags\na,cat\n")
    deny("tags.csv")
    with pytest.raises(CorpusError, match=r"corpus\.tags: this account may not read .*tags\.csv"):
        FolderSource(str(root), SPLITS).list_rows()


def judged(root: Path) -> tuple[dict[str, list[int]], dict[str, tuple[str, str]]]:
    """Tags of the images of a folder, and reason and message of what is rejected."""
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root=str(root))
    source = open_source(settings, seed=0)
    listed = source.list_rows().rows
    rows, duplicates = select_rows(listed)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings)
    told = duplicates.to_pylist() + rejected.to_pylist()
    assert corpus.num_rows + len(told) == len(listed)
    tags = {row["image_id"]: row["tags"] for row in corpus.to_pylist()}
    return tags, {row["image_id"]: (row["reason"], row["message"]) for row in told}


def test_names_that_nearly_match_tag_the_image_they_mean(root: Path) -> None:
    names = ("A.JPG", f"{root}/pets/b.png", "pets//deep/c .webp")
    (root / "tags.csv").write_text("image,tags\n" + "".join(f"{name},cat\n" for name in names))
    assert judged(root) == ({"a": [1], "pets/b": [1], "pets/deep/c": [1]}, {})


@pytest.mark.parametrize(
    ("name", "image_id", "reason", "message"),
    [
        ("b.png", "b", "missing", "'b.png', and .*: did you mean pets/b.PNG?"),
        ("/home/me/a.jpg", "/home/me/a", "invalid_id", ": did you mean a.jpg?"),
        (r"C:\pets\b.PNG", "C:/pets/b", "invalid_id", ": did you mean pets/b.PNG?"),
        ("a.heic", "a.heic/", "missing", ": did you mean a.jpg?"),
        ("a.2", "a.2/", "missing", ": did you mean a.jpg?"),
        ("zebra.jpg", "zebra", "missing", "below corpus.root, where files are called as a.jpg"),
        ("", "", "invalid_id", "a row of the tag table has tags and names no image"),
    ],
)
def test_a_row_without_an_image_says_what_is_there_and_costs_no_image(
    root: Path, name: str, image_id: str, reason: str, message: str
) -> None:
    (root / "tags.csv").write_text(f"image,tags\n{name},cat\n")
    tags, rejected = judged(root)
    assert tags == {"a": [], "pets/b": [], "pets/deep/c": []}
    assert [*rejected] == [image_id]
    assert rejected[image_id][0] == reason
    assert re.search(message.replace("?", r"\?"), rejected[image_id][1])


def test_two_rows_that_come_to_one_image_do_not_share_it(root: Path) -> None:
    (root / "tags.csv").write_text("image,tags\na.png,cat\na.jpg,dog\n")
    tags, rejected = judged(root)
    assert tags["a"] == [2]
    assert rejected["a.png/"][1].endswith("did you mean a.jpg?")


@pytest.mark.parametrize("name", ["12:30.jpg", "cat .jpg"])
def test_an_image_whose_name_cannot_be_an_id_is_told_why(root: Path, name: str) -> None:
    Image.new("RGB", (8, 6)).save(root / name)
    (root / "tags.csv").write_text(f"image,tags\n{name},cat\n")
    reason, message = judged(root)[1][name.removesuffix(".jpg")]
    assert reason == "invalid_id"
    assert ("holds ':'" if ":" in name else "ends with a space") in message


def test_hidden_images_are_found_by_their_name(root: Path) -> None:
    Image.new("RGB", (8, 6)).save(root / "d.jpg")
    (root / "tags.csv").write_text("image,tags\n.hidden/d.jpg,cat\n")
    assert judged(root)[0] == {".hidden/d": [1], "a": [], "d": [], "pets/b": [], "pets/deep/c": []}


def test_of_two_tables_beside_the_images_one_has_to_be_named(root: Path) -> None:
    (root / "Tags.CSV").write_text("image,tags\na.jpg,cat\n")
    assert by_id(FolderSource(str(root), SPLITS))["a"].tags == ("cat",)
    (root / "tags.tsv").write_text("image\ttags\na.jpg\tdog\n")
    with pytest.raises(CorpusError, match=r"holds Tags\.CSV and tags\.tsv: name those that count"):
        FolderSource(str(root), SPLITS).list_rows()
    named = FolderSource(str(root), SPLITS, (str(root / "tags.tsv"),))
    assert by_id(named)["a"].tags == ("dog",)


@pytest.mark.parametrize("place", ["", "masks", "by/night"])
@pytest.mark.parametrize("writer", [EXPORT, PREDICT], ids=["export", "predict"])
def test_our_own_masks_are_no_images(root: Path, place: str, writer: Writer) -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "a.png").write_bytes((root / "a.jpg").read_bytes())
    mark_folder(writer, Store(str(root / place)), {"run": "r"})
    with pytest.raises(CorpusError, match=f"holds the masks that {writer.name} wrote"):
        FolderSource(str(root), SPLITS).list_rows()
    with pytest.raises(CorpusError, match="move that folder elsewhere"):
        FolderSource(str(root), SPLITS, tagged=False).list_rows()  # dcsp predict
    if place:
        FolderSource(str(root), SPLITS, masks=str(root / place)).list_rows()


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"job": "another"}'])
def test_other_files_of_the_name_of_a_mark_say_nothing(root: Path, content: str) -> None:
    (root / "export.json").write_text(content)
    assert by_id(FolderSource(str(root), SPLITS))


def test_urls_work_like_paths(root: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/x/a.jpg", (root / "a.jpg").read_bytes())
    memory.pipe("/bucket/x/tags.csv", b"image,tags\nmemory://bucket/x/A.jpg,cat\n")
    settings = CorpusSettings(kind="folder", classes=VOC_CLASSES, root="memory://bucket/x")
    source = open_source(settings, seed=0)
    (row,) = source.list_rows().rows
    assert (row.image_id, row.tags, row.uri) == ("a", ("cat",), "memory://bucket/x/a.jpg")
    assert source.read(row) == (root / "a.jpg").read_bytes()
