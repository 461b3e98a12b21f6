"""Maps that somebody else computed: read as a saliency table, each fault a typed row."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcsp.errors import CorpusError
from dcsp.saliency.maps import MapStage
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_map
from dcsp.tables.schemas import SALIENCY

SHAPE = (6, 9)
LEVELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def rows_of(stage: MapStage, *ids: str) -> list[dict[str, Any]]:
    """The table that the stage makes of images of one size."""
    corpus = pa.Table.from_pylist(
        [{"image_id": name, "height": SHAPE[0], "width": SHAPE[1]} for name in ids]
    )
    made = stage.finish(stage.load(Store("unused"), Device())(corpus))
    return made.select(SALIENCY.names).cast(SALIENCY).to_pylist()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", png(LEVELS)),
        ("a.png", png(LEVELS.astype(np.uint16) * 257)),
        ("a.npy", npy(LEVELS)),
        ("a.npy", npy(LEVELS.astype(np.float64) / 255)),
        ("a.npz", npz(saliency=LEVELS.astype(np.float32) / 255)),
    ],
)
def test_a_map_is_read_whatever_its_format(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    (row,) = rows_of(MapStage((str(tmp_path),)), "a")
    assert row["status"] == "ok" and row["error"] is None
    np.testing.assert_allclose(decode_map(row["maps"][0]), LEVELS / 255, atol=1 / 500)


def test_each_folder_is_a_pass_and_no_pixel_falls(tmp_path: Path) -> None:
    for number, levels in enumerate((LEVELS, LEVELS[::-1])):
        (tmp_path / str(number) / "deep").mkdir(parents=True)
        (tmp_path / str(number) / "deep" / "a.png").write_bytes(png(np.ascontiguousarray(levels)))
    stage = MapStage(tuple(str(tmp_path / str(number)) for number in range(2)))
    (row,) = rows_of(stage, "deep/a")
    first, second = map(decode_map, row["maps"])
    np.testing.assert_allclose(first, LEVELS / 255, atol=1 / 500)
    np.testing.assert_allclose(second, np.maximum(LEVELS, LEVELS[::-1]) / 255, atol=1 / 500)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("other.png", png(LEVELS), "missing_map: there is no a.png"),
        ("a.png", png(LEVELS[:, :4]), r"wrong_size: .*\(6, 4\).*\(6, 9\)"),
        ("a.png", png(np.zeros((*SHAPE, 3), np.uint8)), "unreadable_map: .*mode RGB"),
        ("a.png", b"\x89PNG no more", "unreadable_map"),
        ("a.npy", npy(np.full(SHAPE, 1.5)), "unreadable_map: .*leave 0–1"),
        ("a.npy", npy(np.full(SHAPE, np.nan)), "unreadable_map: .*leave 0–1"),
        ("a.npy", npy(np.zeros((2, *SHAPE))), "unreadable_map: .*shape"),
        ("a.npy", npy(np.array([{"code": 1}], object)), "unreadable_map"),
        ("a.npz", npz(one=LEVELS, two=LEVELS), "unreadable_map: .*2 arrays"),
        ("a.npz", b"PK\x03\x04 torn", "unreadable_map"),
    ],
)
def test_a_map_that_cannot_be_used_is_a_typed_row(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / "good.png").write_bytes(png(LEVELS))
    (tmp_path / name).write_bytes(data)
    bad, good = rows_of(MapStage((str(tmp_path),)), "a", "good")
    assert bad["status"] == "error" and bad["maps"] is None
    assert re.match(reason, bad["error"]), bad["error"]
    assert good["status"] == "ok"


def test_a_folder_that_is_not_there_is_no_corpus_of_errors(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"saliency\.maps=.*none.* is not there"):
        rows_of(MapStage((str(tmp_path / "none"),)), "a")


def test_where_maps_lie_decides_the_table(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert MapStage((one,)).key == MapStage((one,)).key
    assert len({MapStage(places).key.fingerprint for places in ((one,), (two,), (one, two))}) == 3
