"""Names that nearly match: the one image that can be meant, else those that are like it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from dcsp.corpus.sources.names import ImageFiles, masks_of

ROOT = "/data/photos"
NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("a/1", "a/1.jpg"),
        ("v1.2", "v1.2.jpg"),
        ("a/1.JPG", "a/1.jpg"),
        ("a/1.jpg", "a/1.JPG"),
        ("A/1.jpg", "a/1.jpg"),
        ("a/cat1", "a/Cat1.jpg"),
        ("a/1.jpg", "a/1.jpeg"),
        ("a/1.jpg", "a/1.png"),
        (NFC, NFD),
        (NFD, NFC),
        (NFC.removesuffix(".jpg"), NFD),
        (f"{ROOT}/a/1.jpg", "a/1.jpg"),
        (f"{ROOT}/a/1", "a/1.jpg"),
        (f"{ROOT}//a/./1.JPG", "a/1.jpg"),
        (f"file://{ROOT}/a/1.jpg", "a/1.jpg"),
        ("photos/a/1.jpg", "a/1.jpg"),
        ("data/photos/a/1.jpg", "a/1.jpg"),
        ("././a//b/../1.jpg", "a/1.jpg"),
        ("a /1 .jpg", "a/1.jpg"),
        ("my%20cat.jpg", "my cat.jpg"),
        ("my cat.jpg", "my%20cat.jpg"),
    ],
)
def test_a_name_means_the_one_image_that_it_can_mean(name: str, file: str) -> None:
    files = ImageFiles(ROOT, [file, "other/2.jpg"])
    assert files.find(name) == [file]
    assert files.meant_by([name]) == {name: [file]}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cat.jpg", ["Cat.jpg", "CAT.jpg"]),
        ("cat.jpg", ["cat.png", "cat.webp"]),
        ("a%20b.JPG", ["a b.jpg", "a%20B.jpg"]),
        ("v1.2", ["v1.jpg"]),
        ("/a/1.jpg", ["a/1.jpg"]),
        ("/elsewhere/photos/a/1.jpg", ["a/1.jpg"]),
        ("C:/photos/a/1.jpg", ["a/1.jpg"]),
        ("1.jpg", ["a/1.jpg"]),
        ("1.heic", ["1.jpg"]),
        ("", [" .jpg"]),
    ],
)
def test_what_may_mean_another_image_means_none(name: str, files: list[str]) -> None:
    assert ImageFiles(ROOT, files).find(name) == []


@pytest.mark.parametrize("name", ["a.b", "cat.jpg", "a%20b.jpg", "photos/1.jpg"])
def test_an_image_is_found_by_the_very_name_it_has(name: str) -> None:
    alike = ["1.jpg", "CAT.jpg", "a b.jpg", "a.jpg", "a.b.jpg", "cat.jpg", "a%20b.jpg"]
    found = ImageFiles(ROOT, [*alike, "photos/1.jpg"]).find(name)
    assert found == ["a.b.jpg" if name == "a.b" else name]


def test_a_root_is_known_by_where_its_link_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "photos").symlink_to(tmp_path / "disk")
    files = ImageFiles(str(tmp_path / "photos"), ["1.jpg"])
    assert files.find(str(tmp_path.resolve() / "disk/1.jpg")) == ["1.jpg"]


def test_a_root_in_a_bucket_may_stand_before_a_name() -> None:
    files = ImageFiles("s3://bucket/photos/", ["1.jpg"])
    assert files.find("s3://bucket/photos/1.jpg") == ["1.jpg"]
    assert files.find("s3://other/photos/1.jpg") == []


@pytest.mark.parametrize(
    ("names", "file", "meaning"),
    [
        (["1.jpg", "1.png"], "1.png", ["1.png"]),
        (["1.jpg", "1.png"], "1.webp", []),
        (["Cat.jpg", "cat.jpg"], "cat.jpg", ["cat.jpg"]),
        (["cat.jpg", "cat"], "cat.JPG", ["cat.jpg", "cat"]),
        (["cat.jpg", f"{ROOT}/cat.jpg"], "cat.JPG", ["cat.jpg", f"{ROOT}/cat.jpg"]),
    ],
)
def test_two_names_of_two_images_do_not_come_to_one(
    names: list[str], file: str, meaning: list[str]
) -> None:
    meant = ImageFiles(ROOT, [file]).meant_by(names)
    assert [name for name in names if meant[name]] == meaning


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("1.jpg", ["b/1.jpg", "a/1.jpg", "c/d/1.jpg"]),
        ("d/1.jpg", ["c/d/1.jpg", "b/1.jpg", "a/1.jpg"]),
        ("cat_1.jpg", ["cat-1.jpg"]),
        ("12:30.jpg", ["12_30.jpg"]),
        ("CAT 1.heic", ["cat-1.jpg"]),
        ("???.jpg", []),
        ("zebra.jpg", []),
    ],
)
def test_images_that_are_like_a_name_come_nearest_first(name: str, like: list[str]) -> None:
    names = ["b/1.jpg", "a/1.jpg", "c/d/1.jpg", "cat-1.jpg", "12_30.jpg", "--.jpg"]
    assert ImageFiles(ROOT, names).like(name) == like


@pytest.mark.parametrize(
    ("ids", "file"), [(["Cat", "CAT"], "cat.png"), (["A/x", "a/x"], "a /x.png")]
)
def test_a_mask_that_two_images_claim_is_of_neither(ids: list[str], file: str) -> None:
    assert masks_of(ids, [file]) == {}
    assert masks_of(ids[:1], [file]) == {ids[0]: file}
    assert masks_of([*ids, "b"], [file, "b.png"]) == {"b": "b.png"}
