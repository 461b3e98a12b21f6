"""Masks as files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsp.errors import StoreError
from dcsp.exports.folders import Voc
from dcsp.exports.place import Place
from dcsp.exports.rows import Exported, Written, export_masks
from dcsp.inspection.mask_files import mask_path
from dcsp.labels import voc_palette
from dcsp.tables.codecs import encode_labels
from dcsp.tables.schemas import PREDICTIONS

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def part(rows: dict[str, str]) -> pa.Table:
    """A predictions part of image id → status."""
    made = [
        {
            "image_id": image_id,
            "status": status,
            "label": encode_labels(LABELS) if status == "ok" else None,
        }
        for image_id, status in rows.items()
    ]
    return pa.Table.from_pylist(made, schema=PREDICTIONS)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_masks_are_named_after_their_images(tmp_path: Path) -> None:
    parts = [part({"a": "ok", "deep/er/b.c": "ok"}), part({"bad": "error", "none": "skipped"})]
    assert export_masks(parts, tmp_path / "out") == Exported(written=2, left_out=2)
    assert files(tmp_path) == ["out/a.png", "out/deep/er/b.c.png"]


def test_masks_hold_the_labels_and_the_voc_palette(tmp_path: Path) -> None:
    export_masks([part({"a": "ok"})], tmp_path)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), LABELS)
        assert np.array_equal(np.asarray(image.convert("RGB")), voc_palette()[LABELS])


def test_a_score_of_exactly_the_least_is_trusted(tmp_path: Path) -> None:
    scores = pa.array([0.7, 0.69, None], pa.float32())  # as the table of trust has them
    rows = part({"a": "ok", "b": "ok", "c": "ok"}).append_column("trust.score", scores)
    written = Written(Voc(()), Place(tmp_path), min_trust=0.7)
    written.rows(rows, "train", 0)
    assert written.counts == Exported(written=1, untrusted=2)


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    export_masks([part({"a": "ok"})], tmp_path)
    export_masks([part({"a": "ok"})], tmp_path)
    assert files(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == encode_labels(LABELS)


@pytest.mark.parametrize("image_id", ["", ".", "/etc/a", "../a", "a/../../b", "a\\..\\b", "a\0b"])
def test_ids_that_lead_outside_get_no_file(tmp_path: Path, image_id: str) -> None:
    done = export_masks([part({image_id: "ok", "fine": "ok"})], tmp_path / "out")
    assert (done.written, done.unnamed) == (1, 1)
    assert "rename the image" in done.told and repr(image_id) in done.told
    assert files(tmp_path) == ["out/fine.png"]


@pytest.mark.parametrize(
    ("ids", "blocked"),
    [
        (["a", "a.png/b", "c"], "'a.png/b' (another mask has the name of its folder)"),
        (["a.png/b", "a", "c"], "'a' (a folder has the name of its mask)"),
        (["a.png", "a.png.png/b/c", "c"], "'a.png.png/b/c' (another mask has the name of its"),
        (["a", "b" * 300, "c"], "(the name is too long for this file system)"),
        (["a", "\u00e9" * 126, "c"], "(the name is too long for this file system)"),
        (["a", "b" * 300 + "/d", "c"], "(the name is too long for this file system)"),
    ],
)
def test_a_name_that_cannot_be_costs_no_other_mask(
    tmp_path: Path, ids: list[str], blocked: str
) -> None:
    done = export_masks([part(dict.fromkeys(ids, "ok"))], tmp_path / "out")
    assert (done.written, done.left_out, done.unnamed) == (2, 0, 1)
    assert done.told.startswith("1 mask has no file") and blocked in done.told
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("other", ["CAT", "Cat", "c\u0041t"])
def test_names_that_a_file_system_does_not_tell_apart(
    tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = part({"cat": "ok", other: "ok"})
    assert export_masks([both], tmp_path / "apart").unnamed == 0
    monkeypatch.setattr("dcsp.inspection.mask_files._folds_names", lambda out: True)
    done = export_masks([both], tmp_path / "alike")
    assert (done.written, done.unnamed) == (1, 1) and repr(other) in done.told
    assert export_masks([both], tmp_path / "alike").unnamed == 1  # and again


@given(st.text(alphabet="ab./\\ ~\0", max_size=12))
def test_a_mask_lies_inside_or_is_refused(image_id: str) -> None:
    out = Path("/nowhere/out")
    try:
        path = mask_path(out, image_id)
    except ValueError:
        return
    assert path.resolve().is_relative_to(out) and path != out and path.suffix == ".png"


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="outside"):
        export_masks([part({"link/a": "ok"})], tmp_path / "out")
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="Cannot write the mask"):
        export_masks([part({"a": "ok"})], tmp_path / "out")
