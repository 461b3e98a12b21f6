"""VOC layout: splits, tags from XML or lists, masks; and the real photographs."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import plan_batches, select_rows
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import SourceRow, listing_digest
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.voc import VOCSource
from dcsp.errors import CorpusError, ImageError
from dcsp.labels import VOC_CLASSES, TagMapper
from dcsp.tables.codecs import decode_labels
from tests.corpus.conftest import Deny
from tests.photographs import PHOTOGRAPHS, needs_photographs

DOCS = Path(__file__).parents[3] / "docs"


def lines(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def annotate(root: Path, name: str, *objects: str) -> None:
    inner = "".join(f"<object><name>{o}</name><difficult>1</difficult></object>" for o in objects)
    lines(root / f"Annotations/{name}.xml", f"<annotation>{inner}</annotation>")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6)).save(tmp_path / f"JPEGImages/{name}.jpg")
    Image.fromarray(np.full((6, 8), 8, np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    lines(tmp_path / "ImageSets/Segmentation/train.txt", "a", "b", "", "gone")
    lines(tmp_path / "ImageSets/Segmentation/val.txt", "c")
    lines(tmp_path / "ImageSets/Main/cat_train.txt", "a  1", "b -1", "gone  0")
    lines(tmp_path / "ImageSets/Main/train_train.txt", "a  1", "b  0")
    lines(tmp_path / "ImageSets/Main/train_val.txt", "c  1")
    lines(tmp_path / "ImageSets/Main/train.txt", "other")
    return tmp_path


def by_id(source: VOCSource) -> dict[str, SourceRow]:
    return {row.image_id: row for row in source.list_rows().rows}


def test_tags_come_from_the_lists_where_there_is_no_xml(root: Path) -> None:
    rows = by_id(VOCSource(str(root), ("train", "val")))
    assert {name: row.tags for name, row in rows.items()} == {
        "a": ("cat", "train"),
        "b": ("train",),
        "gone": ("cat",),
        "c": ("train",),
    }
    assert [row.split for row in rows.values()] == ["train", "train", "train", "val"]
    assert (rows["a"].mask_uri is None, rows["b"].mask_uri is None) == (False, True)


def test_xml_comes_before_the_lists_and_difficult_objects_count(root: Path) -> None:
    annotate(root, "a", "dog", "dog", "bird")
    annotate(root, "c")
    rows = by_id(VOCSource(str(root), ("train", "val")))
    assert rows["a"].tags == ("bird", "dog")
    assert rows["b"].tags == ("train",)
    assert rows["c"].tags == ()


def test_a_broken_xml_is_one_rejected_row(root: Path) -> None:
    lines(root / "Annotations/a.xml", "<annotation><object>")
    source = VOCSource(str(root), ("train",))
    settings = CorpusSettings(kind="voc", root=str(root))
    corpus, truth, rejected = read_rows(
        source, source.list_rows().rows, TagMapper(VOC_CLASSES), settings
    )
    assert corpus["image_id"].to_pylist() == ["b"]
    assert truth["status"].to_pylist() == ["skipped"]
    assert dict(zip(*(rejected[c].to_pylist() for c in ("image_id", "reason")), strict=True)) == {
        "a": "unreadable_tags",
        "gone": "missing",
    }


def test_an_xml_that_may_not_be_read_is_one_rejected_row(root: Path, deny: Deny) -> None:
    annotate(root, "a", "dog")
    annotate(root, "b", "dog")
    deny("Annotations/a.xml")
    rows = by_id(VOCSource(str(root), ("train",)))
    assert "may not read" in rows["a"].problem
    assert (rows["b"].problem, rows["b"].tags) == ("", ("dog",))


def test_a_list_that_may_not_be_read_is_told(root: Path, deny: Deny) -> None:
    deny("Segmentation/train.txt")
    with pytest.raises(CorpusError, match=r"may not read .*Segmentation/train\.txt"):
        VOCSource(str(root), ("train",)).list_rows()


def test_main_gives_the_splits_where_segmentation_does_not(root: Path) -> None:
    for split in ("train", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").unlink()
    assert [row.image_id for row in VOCSource(str(root), ("train", "val")).list_rows().rows] == [
        "other"
    ]


def opened(root: Path, **split_files: str) -> VOCSource:
    tree = {"kind": "voc", "root": str(root), "split_files": split_files}
    source = open_source(CorpusSettings.model_validate(tree), seed=0)
    assert isinstance(source, VOCSource)
    return source


@pytest.mark.parametrize("place", ["Segmentation", "Main"])
def test_a_split_may_have_a_list_of_another_name(root: Path, place: str) -> None:
    lines(root / f"ImageSets/{place}/trainaug.txt", "b", "d")
    annotate(root, "d", "bird")
    rows = by_id(opened(root, train="trainaug"))
    assert {name: row.split for name, row in rows.items()} == {
        **{"b": "train", "d": "train"},
        "c": "val",
    }
    assert (rows["d"].tags, rows["b"].tags, rows["c"].tags) == (("bird",), ("train",), ("train",))


def test_a_list_may_hold_paths_of_images_and_masks(root: Path) -> None:
    """As the lists do that come with SBD's augmented masks."""
    paths = ("/JPEGImages/a.jpg /SegmentationClassAug/a.png", "JPEGImages/b.jpg")
    lines(root / "ImageSets/Segmentation/trainaug.txt", *paths)
    rows = by_id(opened(root, train="trainaug"))
    assert list(rows) == ["a", "b", "c"] and rows["a"].mask_uri is not None


def test_a_list_may_be_one_of_the_authors(root: Path) -> None:
    folder = "/PASCAL_VOC_Aug"
    names = ("JPEGImages/a.jpg", "Attentions/a.npz", "Saliency/a.npz", "ClassCategories/a.txt")
    line = " ".join(f"{folder}/{name}" for name in names)
    lines(root / "ImageSets/Segmentation/train_attn_sal_labels.txt", line)
    rows = by_id(opened(root, train="train_attn_sal_labels"))
    assert list(rows) == ["a", "c"] and rows["a"].tags == ("cat", "train")


def test_augmented_masks_come_before_the_others(root: Path) -> None:
    (root / "SegmentationClassAug").mkdir()
    for name in ("b", "c"):
        Image.fromarray(np.full((6, 8), 12, np.uint8)).save(
            root / f"SegmentationClassAug/{name}.png"
        )
    Image.fromarray(np.full((6, 8), 3, np.uint8)).save(root / "SegmentationClass/b.png")
    source = VOCSource(str(root), ("train", "val"))
    ids = {
        name: np.unique(np.asarray(Image.open(io.BytesIO(source.read_mask(row) or b""))))[0]
        for name, row in by_id(source).items()
        if row.mask_uri
    }
    assert ids == {"a": 8, "b": 12, "c": 12}


def test_tags_of_an_image_are_found_in_the_list_of_another_split(root: Path) -> None:
    """VOC's Main lists cut the images in another way than those for segmentation."""
    lines(root / "ImageSets/Segmentation/my_train.txt", "c", "d")
    lines(root / "ImageSets/Main/cow_my_train.txt", "c -1", "d  1")
    lines(root / "ImageSets/Main/dog_trainval.txt", "d  1")
    rows = by_id(opened(root, train="my_train", val="my_train"))
    assert {name: row.tags for name, row in rows.items()} == {"c": ("train",), "d": ("cow", "dog")}


def test_a_missing_list_is_told_with_its_origin(root: Path) -> None:
    with pytest.raises(CorpusError, match=r"no ImageSets/Segmentation/trainaug\.txt.*10,582 ids"):
        opened(root, train="trainaug").list_rows()
    with pytest.raises(
        CorpusError, match=r"mine\.txt, the list of the split val: put it there, or"
    ):
        opened(root, val="mine").list_rows()
    unasked = {"train": "trainaug"}
    assert list(by_id(VOCSource(str(root), ("val",), unasked))) == ["c"]


def test_wrong_roots_are_explained(root: Path, tmp_path: Path) -> None:
    for wrong, message in [
        (root / "nowhere", "is not there"),
        (root / "ImageSets", "no folder JPEGImages"),
    ]:
        with pytest.raises(CorpusError, match=message):
            VOCSource(str(wrong), ("train",)).list_rows()
    with pytest.raises(CorpusError, match=r"test\.txt"):
        VOCSource(str(root), ("test",)).list_rows()
    with pytest.raises(CorpusError, match="cannot be opened"):
        VOCSource("nosuchprotocol://bucket", ("train",)).list_rows()


def test_the_listing_digest_sees_every_change(root: Path) -> None:
    source = VOCSource(str(root), ("train",))
    before = listing_digest(source.list_rows().rows)
    assert before == listing_digest(reversed(source.list_rows().rows))
    Image.new("RGB", (9, 6)).save(root / "JPEGImages/a.jpg")
    after = listing_digest(source.list_rows().rows)
    assert after != before
    lines(root / "ImageSets/Main/cow_train.txt", "a  1")
    assert listing_digest(source.list_rows().rows) not in (before, after)


def test_sources_read_and_travel(root: Path) -> None:
    source = pickle.loads(pickle.dumps(VOCSource(str(root), ("train",))))
    rows = by_id(source)
    assert source.read(rows["a"]) == (root / "JPEGImages/a.jpg").read_bytes()
    assert source.read_mask(rows["a"]) == (root / "SegmentationClass/a.png").read_bytes()
    assert source.read_mask(rows["b"]) is None
    with pytest.raises(ImageError, match="no file"):
        source.read(rows["gone"])


@needs_photographs
def test_the_lists_of_the_documentation_name_the_measured_photographs(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Main"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(PHOTOGRAPHS / folder)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir()
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("2007_000027\n")  # VOC has lists of its own
        shutil.copy(DOCS / f"voc676/{split}.txt", lists / f"voc676_{split}.txt")
    found = by_id(opened(tmp_path, train="voc676_train", val="voc676_val"))
    measured = by_id(opened(PHOTOGRAPHS))
    assert {name: (row.split, row.tags) for name, row in found.items()} == {
        name: (row.split, row.tags) for name, row in measured.items()
    }


@needs_photographs
def test_real_photographs_ingest_with_masks_that_hold_their_tags() -> None:
    settings = CorpusSettings(kind="voc", root=str(PHOTOGRAPHS))
    source = open_source(settings, seed=0)
    rows = source.list_rows().rows
    assert {s: sum(r.split == s for r in rows) for s in ("train", "val")} == {
        "train": 330,
        "val": 250,
    }
    selected, duplicates = select_rows(rows, limit=6)
    assert duplicates.num_rows == 0
    for batch in plan_batches(selected, 4):
        corpus, truth, rejected = read_rows(source, batch, TagMapper(VOC_CLASSES), settings)
        assert rejected.num_rows == 0
        assert truth["image_id"].to_pylist() == corpus["image_id"].to_pylist()
        for tags, label in zip(corpus["tags"].to_pylist(), truth["label"].to_pylist(), strict=True):
            assert sorted(set(np.unique(decode_labels(label))) - {0, 255}) == tags


def test_photographs_of_no_list_are_skipped_and_other_files_counted(root: Path) -> None:
    for name in ("b.png", "d.jpg", "e.heic", ".hidden.jpg", "Thumbs.db"):
        (root / "JPEGImages" / name).write_bytes(b"-")
    (root / "SegmentationClass/z.png").write_bytes(b"-")
    (root / "SegmentationClass/d.PNG").write_bytes(b"-")
    listed = VOCSource(str(root), ("train", "val")).list_rows()
    assert len(listed.rows) == 4 and listed.skipped == 2  # d, and b twice
    assert listed.others == {".heic": 1, ".db": 1, "hidden": 1}
    assert (listed.idle_masks, listed.idle_mask) == (1, "SegmentationClass/z.png")
