"""Where predictions may be written to, and what is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.errors import ConfigError
from dcsp.inspection.destination import EXPORT, PREDICT, claim_folder, mark_folder
from dcsp.store.store import Store

MARK_FILE = PREDICT.mark_file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("work/photos/cats/1.png", "work/store/predictions/aa/part.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("precious")
    return tmp_path / "work"


def claim(place: Path, out: str) -> Store:
    apart = {"--images": Store(place / "photos"), "STORE": Store(place / "store")}
    return claim_folder(PREDICT, place / out, apart)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("out", ["out", "new/out"])
def test_a_new_or_an_empty_folder_is_marked(place: Path, out: str) -> None:
    (place / "out").mkdir()
    claim(place, out)
    assert list(contents(place / out)) == [MARK_FILE]


def test_an_earlier_result_is_taken_again_and_keeps_its_mark(place: Path) -> None:
    mark_folder(PREDICT, claim(place, "out"), {"classes": ["cat"]})
    (place / "out/cat.png").write_text("an earlier mask")
    before = contents(place)
    claim(place, "out")
    assert contents(place) == before


@pytest.mark.parametrize(
    ("out", "option"),
    [
        ("photos", "--images"),
        ("photos/cats", "--images"),
        ("photos/new/masks", "--images"),
        ("../work", "--images"),
        ("store", "STORE"),
        ("store/predictions/aa", "STORE"),
        ("store/new", "STORE"),
        ("link", "STORE"),
        ("link/new", "STORE"),
    ],
)
def test_a_folder_that_mixes_with_images_or_store_is_refused(
    place: Path, out: str, option: str
) -> None:
    (place / "link").symlink_to(place / "store")
    before = contents(place)
    with pytest.raises(ConfigError, match=rf"--out .* and {option} .*name a folder elsewhere"):
        claim(place, out)
    assert contents(place) == before


def test_a_folder_that_holds_the_store_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="STORE"):
        apart = {"--images": Store(tmp_path / "photos"), "STORE": Store(place / "predictions")}
        claim_folder(PREDICT, place, apart)
    assert MARK_FILE not in contents(place)


@pytest.mark.parametrize("name", ["predictions/mine.txt", "cat.png", ".work/mine", MARK_FILE])
def test_a_folder_with_files_of_others_is_refused(place: Path, name: str) -> None:
    (place / "out" / name).parent.mkdir(parents=True)
    (place / "out" / name).write_text('{"job": "of somebody else"}')
    before = contents(place)
    with pytest.raises(ConfigError, match=r"did not write: name a new or an empty folder"):
        claim(place, "out")
    assert contents(place) == before


def test_a_result_of_an_earlier_version_is_taken_again(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / MARK_FILE).write_text('{"job": "jobs/predict.py", "classes": ["cat"]}')
    before = contents(place)
    claim(place, "out")
    assert contents(place) == before


def test_a_result_of_another_writer_is_refused(place: Path) -> None:
    claim(place, "out")
    with pytest.raises(ConfigError, match=r"OUT .* holds files that dcsp export did not write"):
        claim_folder(EXPORT, place / "out", {})


def test_a_store_elsewhere_is_never_in_the_way(place: Path) -> None:
    claim_folder(PREDICT, place / "out", {"STORE": Store("memory://bucket/store")})
    assert (place / "out" / MARK_FILE).is_file()
