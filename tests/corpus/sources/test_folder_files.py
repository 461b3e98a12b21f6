"""What else lies in a folder of images: masks, links, closed folders, and what is no image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from dcsp.corpus.sources.folder import FolderSource
from dcsp.errors import CorpusError
from tests.corpus.sources.test_folder import SPLITS, by_id, judged


def test_links_to_folders_are_told_and_cost_no_image(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(elsewhere / "a.png")
    for name in ("a", "masks"):
        (root / name).symlink_to(elsewhere)
    (root / "tags.csv").write_text("image,tags\na,cat\n")
    rows = by_id(FolderSource(str(root), SPLITS, masks=str(root / "masks")))
    assert rows["a"].tags == ("cat",) and rows["a"].mask_uri == f"{root}/masks/a.png"
    assert rows["a/"].reason == "linked_folder"
    assert set(rows) == {"a", "a/", "pets/b", "pets/deep/c"}


def test_every_file_is_an_image_a_mask_a_table_or_counted(root: Path) -> None:
    masks = root / "masks"
    masks.mkdir()
    names = (
        "e.JFIF",
        "f.jpg.part",
        "g.heic",
        "g.MOV",
        "Thumbs.db",
        "g.xmp",
        "archive.zip",
        "IMG_1",
    )
    for name in (*names, "masks/a.PNG", "masks/zzz.png", "masks/notes.txt", "labels.csv"):
        (root / name).write_bytes((root / "a.jpg").read_bytes())
    (root / "tags.csv").write_text("image,tags,split\na.jpg,cat,\npets/b.PNG,cat,test\ngone,cat,\n")
    listed = FolderSource(str(root), SPLITS, masks=str(masks)).list_rows()
    assert {row.image_id for row in listed.rows} == {"a", "e", "pets/deep/c", "gone"}
    assert listed.skipped == 1
    counted = (
        ".part",
        ".heic",
        ".mov",
        ".db",
        ".xmp",
        ".zip",
        ".csv",
        "hidden",
        "without a suffix",
    )
    assert listed.others == {**dict.fromkeys(counted, 1), ".txt": 2}
    assert (listed.idle_masks, listed.idle_mask) == (1, "zzz.png")
    assert listed.found == 4 + 1 + 11


def test_a_folder_without_images_says_what_is_in_it(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", ".c.jpg"):
        (tmp_path / name).write_bytes(b"-")
    with pytest.raises(CorpusError, match=r"holds no images: what .* \(2 \.heic, 1 hidden\): give"):
        FolderSource(str(tmp_path), SPLITS).list_rows()


def test_a_file_without_a_suffix_that_a_table_names_is_read(root: Path) -> None:
    (root / "IMG_1").write_bytes((root / "a.jpg").read_bytes())
    (root / "g.heic").write_bytes(b"-")
    (root / "tags.csv").write_text("image,tags\nIMG_1,cat\ng.heic,cat\n")
    tags, rejected = judged(root)
    assert tags["IMG_1"] == [1] and rejected["g"][0] == "unreadable"
    assert FolderSource(str(root), SPLITS).list_rows().others == {".txt": 1, "hidden": 1}


@pytest.mark.parametrize("mask", ["a.png", "a.PNG", "A.png", "a.tif", "a .png"])
def test_masks_that_are_called_nearly_like_their_image_are_its(root: Path, mask: str) -> None:
    (root / "masks").mkdir()
    (root / "masks" / mask).write_bytes(b"-")
    listed = FolderSource(str(root), SPLITS, masks=str(root / "masks")).list_rows()
    assert {row.image_id: row.mask_uri for row in listed.rows}["a"] == f"{root}/masks/{mask}"
    assert listed.idle_masks == 0


@pytest.mark.parametrize("masks", [["a_mask.png"], ["a.gif", "a.tif"], ["pets/a.png"], ["c.png"]])
def test_masks_that_are_called_like_no_image_are_told(root: Path, masks: list[str]) -> None:
    for name in masks:
        (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "masks" / name).write_bytes(b"-")
    listed = FolderSource(str(root), SPLITS, masks=str(root / "masks")).list_rows()
    assert all(row.mask_uri is None for row in listed.rows)
    assert (listed.idle_masks, listed.idle_mask) == (len(masks), masks[0])


def test_of_images_that_differ_in_case_each_has_its_own_mask(root: Path) -> None:
    (root / "masks").mkdir()
    (root / "masks/a.png").write_bytes(b"-")
    (root / "A.jpg").write_bytes(b"-")
    rows = by_id(FolderSource(str(root), SPLITS, masks=str(root / "masks")))
    assert rows["a"].mask_uri and rows["A"].mask_uri is None


def test_a_folder_that_may_not_be_read_is_a_row(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests often run as root, who may read every folder."""
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith(closed):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    closed = "/pets"
    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, _: not path.endswith(closed))
    rows = by_id(FolderSource(str(root), SPLITS))
    assert set(rows) == {"a", "pets/"} and rows["pets/"].reason == "closed_folder"
    closed = "/.trash"
    (root / closed[1:]).mkdir()
    listed = FolderSource(str(root), SPLITS).list_rows()
    assert {row.image_id for row in listed.rows} == {"a", "pets/b", "pets/deep/c"}
    assert listed.others["hidden"] == 2, "a hidden file, and a hidden folder that is closed"
    closed = root.name
    with pytest.raises(CorpusError, match="may not be read: change its permissions"):
        FolderSource(str(root), SPLITS).list_rows()


def test_files_of_a_bucket_are_counted_alike() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "b.heic", ".c/d.jpg", "e"):
        memory.pipe(f"/shelf/{name}", b"-")
    listed = FolderSource("memory://shelf", SPLITS).list_rows()
    assert listed.others == {".heic": 1, "hidden": 1, "without a suffix": 1}
    assert (listed.found, len(listed.rows)) == (4, 1)
