"""Tars in a bucket, through a real S3 server: listed by streaming, packed by few ranges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources import webdataset
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.unknown_tags import read_unknown, save_unknown
from dcsp.errors import ImageError
from dcsp.store.store import Store
from dcsp.tables.layout import SHARDS
from tests.corpus.shelf import one_by_one
from tests.corpus.tars import picture, sample, tar_bytes
from tests.s3_server import s3_server

BUCKET = "tars-of-strangers"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A file system with three shards in a bucket."""
    with s3_server(monkeypatch, tmp_path / "moto.log") as endpoint:
        files = fsspec.filesystem("s3", skip_instance_cache=True, endpoint_url=endpoint)
        files.mkdir(BUCKET)
        for name in ("a", "b", "val/c"):
            entries = [e for i in range(6) for e in sample(f"{i}", ["cat"])]
            files.pipe_file(f"{BUCKET}/data/{name}.tar", tar_bytes(entries))
        yield files


def asked(log: Path, since: int) -> list[str]:
    """Requests that the server logged for shards: method and path."""
    lines = re.sub(r"\x1b\[\d+m", "", log.read_text()[since:])  # its colours
    return re.findall(rf'"(GET|HEAD|PUT) (?:/{BUCKET}/data/)(\S+\.tar)', lines)


def test_tars_of_a_bucket_become_parts_and_are_opened_once(bucket: Any, tmp_path: Path) -> None:
    settings = CorpusSettings(
        kind="webdataset", root=f"s3://{BUCKET}/data", classes=("cat",), part_rows=3
    )
    store, log = Store(f"s3://{BUCKET}/store"), tmp_path / "moto.log"
    for name in ("a.heic", "val/.hidden.tar"):
        bucket.pipe_file(f"{BUCKET}/data/{name}", b"-")
    start = len(log.read_text())
    listing = list_corpus(store, settings, 0, spread=one_by_one)
    assert listing.listed.others == {".heic": 1, "hidden": 1}
    assert len(listing.rows) == 18 and {row.split for row in listing.rows} == {"train", "val"}
    listed = [path for method, path in asked(log, start) if method == "GET"]
    assert sorted(listed) == ["a.tar", "b.tar", "val/c.tar"], "each was streamed once"
    start = len(log.read_text())
    again = list_corpus(store, settings, 0)
    assert again.rows == listing.rows and len(store.list(SHARDS)) == 3
    assert asked(log, start) == []
    webdataset._fetch.cache_clear()
    batches = plan_batches(listing.rows, 3)
    records = [listing.packer(Batch(batch)) for batch in batches]
    assert [record["part"]["rows"] for record in records] == [3] * 6
    fetched = [path for method, path in asked(log, start) if method == "GET"]
    assert len(fetched) == len(batches), "one range a part"
    part = store.read_table(f"corpus/parts/{records[0]['part']['name']}.parquet")
    assert part["bytes"].to_pylist() == [picture(1)] * 3
    bucket.pipe_file(f"{BUCKET}/data/a.tar", tar_bytes(sample("0", ["dog"])))
    webdataset._fetch.cache_clear()
    row = next(row for row in listing.rows if "/a.tar" in row.uri)
    with pytest.raises(ImageError, match="has changed since it was listed"):
        listing.packer.source.read(row)
    changed = list_corpus(store, settings, 0, spread=one_by_one)
    assert len(changed.rows) == 13 and len(store.list(SHARDS)) == 4


def test_unknown_tags_come_and_go_in_a_bucket(bucket: Any) -> None:
    store = Store(f"s3://{BUCKET}/store")
    save_unknown(store, "f", Counter())
    save_unknown(store, "f", Counter({"axe": 1}))
    assert read_unknown(store, "f")["images"] == {"axe": 1}
    save_unknown(store, "f", Counter())
    assert read_unknown(store, "f") == {}


def test_images_of_a_bucket_are_fetched_ahead_and_keep_their_order(bucket: Any) -> None:
    for number in range(40):
        bucket.pipe_file(f"{BUCKET}/photos/{number:02d}.png", picture(number))
    bucket.pipe_file(f"{BUCKET}/photos/07.png", b"")
    settings = CorpusSettings(kind="folder", root=f"s3://{BUCKET}/photos", classes=("cat",))
    source = open_source(settings, 0)
    rows = source.list_rows().rows
    bucket.rm_file(f"{BUCKET}/photos/33.png")
    corpus, _, rejected = read_rows(source, rows, settings.mapper(), settings)
    left = [number for number in range(40) if number not in (7, 33)]
    assert corpus["bytes"].to_pylist() == [picture(number) for number in left]
    assert rejected["reason"].to_pylist() == ["empty", "missing"]
