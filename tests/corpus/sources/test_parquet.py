"""Parquet shards: listed without their images, read by row group, kept together in parts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import plan_batches
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources import parquet
from dcsp.corpus.sources.open import open_source
from dcsp.errors import CorpusError, ImageError
from dcsp.labels import VOC_CLASSES, TagMapper
from tests.corpus.conftest import Deny

MAPPER = TagMapper(("cat", "dog"))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def settings(root: Path, part_rows: int = 256) -> CorpusSettings:
    return CorpusSettings(kind="parquet", root=str(root), classes=VOC_CLASSES, part_rows=part_rows)


def write(path: Path, group: int = 100, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)


def test_shards_become_corpus_and_truth(tmp_path: Path) -> None:
    write(
        tmp_path / "one.parquet",
        bytes=[png(10), b"", None, png(13)],
        tags=["cat;dog", "cat", "cat", "dog"],
        image_id=["x/1", "x/2", "x/3", "x/4"],
        split=["train", "train", "val", "test"],
        mask=[png(2), None, None, None],
    )
    source = open_source(settings(tmp_path), seed=0)
    rows = source.list_rows().rows
    assert [(row.image_id, row.split, row.tags) for row in rows] == [
        ("x/1", "train", ("cat", "dog")),
        ("x/2", "train", ("cat",)),
        ("x/3", "val", ("cat",)),
    ]
    corpus, truth, rejected = read_rows(source, rows, MAPPER, settings(tmp_path))
    assert corpus["bytes"].to_pylist() == [png(10)]
    assert truth["status"].to_pylist() == ["ok"]
    assert rejected["reason"].to_pylist() == ["empty", "empty"]


def test_splits_go_by_other_names_and_unknown_ones_are_rejected(tmp_path: Path) -> None:
    names = ["Train", " validation", None, "test", "vall"]
    write(tmp_path / "s.parquet", bytes=[png(i) for i in range(5)], tags=["cat"] * 5, split=names)
    source = open_source(settings(tmp_path), seed=0)
    rows = source.list_rows().rows
    assert [row.split for row in rows] == ["train", "val", "train", "vall"]
    batches = plan_batches(rows, 256)
    assert all(len({row.split for row in batch}) == 1 for batch in batches)
    rejected = [read_rows(source, batch, MAPPER, settings(tmp_path))[2] for batch in batches]
    found = [row for table in rejected for row in table.to_pylist()]
    assert [(row["split"], row["reason"]) for row in found] == [("vall", "unknown_split")]


def test_images_in_structs_are_named_after_shard_and_row(tmp_path: Path) -> None:
    write(
        tmp_path / "data/s.parquet",
        group=2,
        image=[{"bytes": png(i), "path": "p"} for i in range(5)],
        tags=[["cat"]] * 5,
    )
    for root in (tmp_path, tmp_path / "data/s.parquet"):
        source = open_source(settings(root), seed=0)
        rows = source.list_rows().rows
        assert [row.image_id.rpartition("/")[2] for row in rows] == [f"{i:08d}" for i in range(5)]
        assert [source.read(row) for row in rows] == [png(i) for i in range(5)]
        assert source.read_mask(rows[0]) is None


def test_row_groups_stay_together_and_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in ("a", "b"):
        write(tmp_path / f"{shard}.parquet", 4, bytes=[png(1)] * 16, tags=["cat"] * 16)
    source = open_source(settings(tmp_path, part_rows=8), seed=0)
    batches = plan_batches(source.list_rows().rows, 8)
    assert [len(batch) for batch in batches] == [8, 8, 8, 8]
    opened: list[str] = []
    real = parquet._open
    monkeypatch.setattr(parquet, "_open", lambda uri: opened.append(uri) or real(uri))
    parquet._read_group.cache_clear()
    for batch in batches:
        read_rows(source, batch, MAPPER, settings(tmp_path))
    assert len(opened) == 8


def test_new_shards_leave_the_batches_of_old_ones_as_they_are(tmp_path: Path) -> None:
    """What README.md promises of a corpus that grows."""
    source = open_source(settings(tmp_path), seed=0)
    write(tmp_path / "b.parquet", 4, bytes=[png(1)] * 9, tags=["cat"] * 9)
    before = plan_batches(source.list_rows().rows, 4)
    for shard in ("a", "c"):
        write(tmp_path / f"{shard}.parquet", 4, bytes=[png(1)] * 3, tags=["cat"] * 3)
    after = plan_batches(source.list_rows().rows, 4)
    assert len(after) == 5 and all(batch in after for batch in before)


def test_wrong_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no \.parquet"):
        open_source(settings(tmp_path), 0).list_rows()
    write(tmp_path / "a.parquet", bytes=[b""], labels=["cat"])
    with pytest.raises(CorpusError, match="needs tags, and bytes or image"):
        open_source(settings(tmp_path), 0).list_rows()
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match="no readable Parquet"):
        open_source(settings(tmp_path), 0).list_rows()


def test_a_shard_that_may_not_be_read_is_told(tmp_path: Path, deny: Deny) -> None:
    write(tmp_path / "one.parquet", bytes=[png(1)], tags=["cat"])
    deny("one.parquet")
    with pytest.raises(ImageError, match=r"may not read .*one\.parquet"):
        open_source(settings(tmp_path), 0).list_rows()


def test_a_shard_that_went_away_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "gone.parquet", bytes=[png(1)], tags=["cat"])
    source = open_source(settings(tmp_path), 0)
    (row,) = source.list_rows().rows
    (tmp_path / "gone.parquet").unlink()
    with pytest.raises(ImageError) as caught:
        source.read(row)
    assert caught.value.reason == "missing"


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    shard = tmp_path / "shard.parquet"
    images = [np.random.default_rng(i).bytes(2_000) for i in range(4)]
    table = pa.table({"image_id": list("abcd"), "bytes": images, "tags": [["cat"]] * 4})
    pq.write_table(table, shard, row_group_size=2, compression="none", write_page_checksum=True)
    source = parquet.ParquetSource(str(tmp_path), ("train",), 2)
    rows = {row.image_id: row for row in source.list_rows().rows}
    start = pq.ParquetFile(shard).metadata.row_group(1).column(1).data_page_offset
    data = bytearray(shard.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    shard.write_bytes(data)
    assert source.read(rows["a"]) == images[0]
    for name in "cd":
        with pytest.raises(ImageError, match="no readable Parquet file") as caught:
            source.read(rows[name])
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("nested", [False, True])
def test_an_image_that_stands_once_in_a_file_is_held_once(tmp_path: Path, nested: bool) -> None:
    """A shard of 2 kB took gigabytes: its rows share one image, in a dictionary."""
    large = bytes(10_000_000)
    images = [{"bytes": large, "path": "x"}] * 50 if nested else [large] * 50
    write(tmp_path / "s.parquet", image=images, tags=["cat"] * 50)
    assert (tmp_path / "s.parquet").stat().st_size < 1_000_000
    source = open_source(settings(tmp_path), seed=0)
    rows = source.list_rows().rows
    arrow, before = pa.default_memory_pool(), pa.default_memory_pool().bytes_allocated()
    assert source.read(rows[0]) == source.read(rows[-1]) == large
    assert arrow.bytes_allocated() - before < 30_000_000


def test_a_row_group_is_judged_by_the_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "s.parquet", bytes=[bytes(5000) + png(1), png(2)], tags=["cat"] * 2, group=1)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 4000)
    source = open_source(settings(tmp_path), seed=0)
    rows = source.list_rows().rows
    _, _, rejected = read_rows(source, rows, MAPPER, settings(tmp_path))
    (told,) = rejected.to_pylist()
    assert (told["stage"], told["reason"]) == ("read", "unreadable")
    assert "in its row group 0, more than 4000: write it with smaller row groups" in told["message"]


@pytest.mark.parametrize(
    "tags",
    [["cat" * 2000, "b"], ["cat" * 500] * 50, [["cat" * 500, "dog"]] * 50],
    ids=["one long", "one often", "lists"],
)
def test_tags_that_are_too_long_are_told_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: list[Any]
) -> None:
    write(tmp_path / "s.parquet", bytes=[png(1)] * len(tags), tags=tags)
    monkeypatch.setattr(parquet, "TAG_BYTES", 5000)
    with pytest.raises(CorpusError, match="more than 5000: write it with smaller row groups"):
        open_source(settings(tmp_path), seed=0).list_rows()


def test_a_file_of_more_rows_than_bytes_is_none_of_images(tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", group=10**6, bytes=[b"x"] * 100_000, tags=["cat"] * 100_000)
    with pytest.raises(CorpusError, match=r"has 100000 rows in .* bytes: write it anew"):
        open_source(settings(tmp_path), seed=0).list_rows()


def test_files_beside_shards_are_counted_and_columns_are_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", bytes=[b"-"], tags=["cat"], Caption=["a cat"])
    write(tmp_path / "b.parquet", bytes=[b"-"] * 2, tags=["cat"] * 2, split=["test", ""])
    (tmp_path / "dataset_info.json").write_text("{}")
    found = open_source(settings(tmp_path), 0).list_rows()
    assert found.others == {".json": 1}
    assert (found.found, len(found.rows), found.skipped) == (4, 2, 1)


@pytest.mark.parametrize("name", [b"capt\xffon", b"\xe9caption"[:7]])
def test_a_column_whose_name_is_no_text_is_told(tmp_path: Path, name: bytes) -> None:
    table = pa.table({"bytes": [b"-"], "tags": ["cat"], "caption": ["a"]})
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    (tmp_path / "a.parquet").write_bytes(sink.getvalue().replace(b"caption", name))
    with pytest.raises(CorpusError, match=r"a\.parquet is no readable Parquet file"):
        open_source(settings(tmp_path), 0).list_rows()
