"""Shards are listed once each: what they list is kept until they change."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.corpus.sources.files import Folder, etag_of
from dcsp.corpus.sources.parquet import ParquetSource
from dcsp.corpus.sources.shards import Shard, ShardLister, hide_erased, list_rows, not_now
from dcsp.corpus.sources.webdataset import WebDatasetSource
from dcsp.errors import CorpusError, PlaceError
from dcsp.store.store import Store
from dcsp.tables.erased import ERASED, Erased
from dcsp.tables.layout import SHARDS
from tests.corpus.conftest import Deny
from tests.corpus.shelf import one_by_one
from tests.corpus.tars import picture, sample, tar_bytes, write_tar

SPLITS = ("train", "val")


class Watched:
    """Lists in this process and says what it opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, lister: ShardLister, shards: Sequence[Shard]) -> None:
        self.opened += [shard.name for shard in shards]
        one_by_one(pickle.loads(pickle.dumps(lister)), shards)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abc":
        write_tar(tmp_path / f"tars/{name}.tar", sample("x", [name]))
    return tmp_path / "tars"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def source(root: Path, part_rows: int = 4) -> WebDatasetSource:
    return WebDatasetSource(str(root), SPLITS, part_rows)


def ids(listed: Listed) -> list[str]:
    return sorted(row.image_id for row in listed.rows)


def test_a_shard_that_stays_is_opened_once(root: Path, store: Store) -> None:
    first, second, third = Watched(), Watched(), Watched()
    rows = list_rows(store, source(root), 0.0, first)
    assert first.opened == ["a", "b", "c"] and ids(rows) == ["a/x", "b/x", "c/x"]
    assert list_rows(store, source(root), 0.0, second) == rows
    assert second.opened == []
    assert rows == source(root).list_rows(), "what is kept is what is there"
    write_tar(root / "b.tar", [*sample("x"), *sample("y")])
    write_tar(root / "d.tar", sample("x"))
    (root / "c.tar").unlink()
    rows = list_rows(store, source(root), 0.0, third)
    assert third.opened == ["b", "d"] and ids(rows) == ["a/x", "b/x", "b/y", "d/x"]


def test_settings_that_decide_the_rows_list_shards_anew(root: Path, store: Store) -> None:
    list_rows(store, source(root), 0.0, one_by_one)
    again, other = Watched(), Watched()
    list_rows(store, WebDatasetSource(str(root), SPLITS, 4), 0.0, again)
    list_rows(store, WebDatasetSource(str(root), ("val",), 4), 0.0, other)
    assert again.opened == [] and other.opened == ["a", "b", "c"]


def test_odd_names_and_tags_are_kept_as_they_are_listed(root: Path, store: Store) -> None:
    long = [(f"{'n' * 300}/{'ö' * 50}.png", picture()), ("b.png", picture())]
    write_tar(root / "a.tar", [*long, *sample("c", ["\ud800", "\0", "汉字"]), *sample("d", [])])
    first = list_rows(store, source(root), 0.0, one_by_one)
    assert first == list_rows(store, source(root), 0.0, one_by_one)
    assert ("\0", "汉字", "\\ud800") in {row.tags for row in first.rows}


def test_a_shard_without_samples_has_no_rows_and_is_opened_once(root: Path, store: Store) -> None:
    write_tar(root / "a.tar", [("notes.mp3", b"-")])
    watched = Watched()
    assert ids(list_rows(store, source(root), 0.0, one_by_one)) == ["b/x", "c/x"]
    again = list_rows(store, source(root), 0.0, watched)
    assert ids(again) == ["b/x", "c/x"] and again.others == {".mp3": 1}
    assert watched.opened == []


def test_a_shard_that_changes_while_it_is_listed_is_not_kept(root: Path, store: Store) -> None:
    """An etag may come back: what is kept under it must be its own."""

    def changing(lister: ShardLister, shards: Sequence[Shard]) -> None:
        write_tar(root / "b.tar", [*sample("other"), *sample("x")])
        one_by_one(lister, shards)

    rows = list_rows(store, source(root), 1.0, changing)
    (fault,) = (row for row in rows.rows if row.problem)
    assert fault.image_id == "b/" and "has changed since it was listed" in fault.problem
    assert len(store.list(SHARDS)) == 2
    assert ids(list_rows(store, source(root), 0.0, one_by_one)) == ["a/x", "b/other", "b/x", "c/x"]


def test_looking_opens_no_shard(root: Path, store: Store) -> None:
    with pytest.raises(CorpusError, match=r"3 new or changed shard\(s\)"):
        list_rows(store, source(root), 0.0, not_now)
    assert store.list(SHARDS) == []
    rows = list_rows(store, source(root), 0.0, one_by_one)
    assert list_rows(store, source(root), 0.0, not_now) == rows


def test_a_broken_shard_is_a_row_as_long_as_few_are(root: Path, store: Store) -> None:
    (root / "b.tar").write_bytes(b"no tar")
    rows = list_rows(store, source(root), 0.34, one_by_one)
    (fault,) = (row for row in rows.rows if row.problem)
    assert (fault.image_id, fault.reason) == ("b/", "unreadable_shard")
    assert ids(rows) == ["a/x", "b/", "c/x"]
    with pytest.raises(CorpusError) as caught:
        list_rows(store, source(root), 0.3, one_by_one)
    assert "1 of 3 shards cannot be listed to their end" in str(caught.value)
    assert "b.tar cannot be read" in str(caught.value)
    (root / "b.tar").write_bytes(tar_bytes(sample("x")))
    assert ids(list_rows(store, source(root), 0.0, one_by_one)) == ["a/x", "b/x", "c/x"]


def test_a_shard_that_may_not_be_read_is_looked_at_again(
    root: Path, store: Store, deny: Deny, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context():
        deny("b.tar")
        (fault,) = (
            row for row in list_rows(store, source(root), 1.0, one_by_one).rows if row.problem
        )
        assert "may not read" in fault.problem
        assert len(store.list(SHARDS)) == 2
        monkeypatch.undo()
    assert ids(list_rows(store, source(root), 0.0, one_by_one)) == ["a/x", "b/x", "c/x"]


@pytest.mark.parametrize("kind", [WebDatasetSource, ParquetSource])
def test_a_place_that_fails_ends_the_listing_and_is_held_against_no_shard(
    root: Path, store: Store, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"bytes": [picture(1)], "tags": [["cat"]]}), root / "d.parquet")
    source = kind(str(root), SPLITS, 4)

    def fails(self: object, shard: Shard) -> list[SourceRow]:
        raise PlaceError(f"Cannot read {shard.uri} (503): submit the job again later.")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "list_shard", fails)
        with pytest.raises(PlaceError, match="submit the job again later"):
            list_rows(store, source, 1.0, one_by_one)
        assert store.list(SHARDS) == []
    assert all(not row.problem for row in list_rows(store, source, 0.0, one_by_one).rows)


def test_a_bucket_that_fails_while_a_tar_is_read_is_told_as_such(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/denied/a.tar", tar_bytes(sample("x")))
    attempts = []

    def fails(*_: object, **__: object) -> Any:
        attempts.append(1)
        raise PermissionError("Access Denied")

    source = WebDatasetSource("memory://denied", SPLITS, 4)
    ((shard,), _) = source.shards()
    assert len(source.list_shard(shard).rows) == 1
    monkeypatch.setattr(type(files), "open", fails)
    with pytest.raises(PlaceError, match=r"Cannot read memory://.*a\.tar \(Access Denied\)"):
        source.list_shard(shard)
    assert len(attempts) == 1, "what does not pass is not tried again"


def test_shards_of_parquet_are_kept_in_the_same_way(tmp_path: Path, store: Store) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("a", "b"):
        table = pa.table({"bytes": [picture()] * 3, "tags": [["cat"]] * 3})
        pq.write_table(table, tmp_path / f"shards/{name}.parquet")
    parquet = ParquetSource(str(tmp_path / "shards"), SPLITS, 4)
    first, second = Watched(), Watched()
    rows = list_rows(store, parquet, 0.0, first)
    assert rows == list_rows(store, parquet, 0.0, second) == parquet.list_rows()
    assert (first.opened, second.opened) == (["a", "b"], [])


def test_one_parquet_file_that_is_written_anew_is_listed_anew(tmp_path: Path, store: Store) -> None:
    file = tmp_path / "one.parquet"
    settings = CorpusSettings(kind="parquet", root=str(file), classes=("cat",))
    digests = []
    for value in (1, 2):
        table = pa.table({"bytes": [picture(value)], "tags": [["cat"]]})
        pq.write_table(table, file, compression="none" if value == 1 else "zstd")
        listing = list_corpus(store, settings, 0, spread=one_by_one)
        digests.append(listing.file)
    assert digests[0] != digests[1]


def test_a_listing_and_a_look_at_one_file_give_the_same_etag(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"1")
    fsspec.filesystem("memory").pipe("/etags/a.tar", b"1")
    for root in (str(tmp_path), "memory://etags"):
        assert Folder(root).find()["a.tar"] == etag_of(f"{root}/a.tar")


def test_the_etag_of_a_link_is_that_of_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "real/a.tar").write_bytes(b"1")
    (tmp_path / "links/a.tar").symlink_to(tmp_path / "real/a.tar")
    (tmp_path / "links/b.tar").symlink_to(tmp_path / "gone.tar")
    found = Folder(str(tmp_path / "links")).find()
    assert found["a.tar"] == Folder(str(tmp_path / "real")).find()["a.tar"]
    assert set(found) == {"a.tar", "b.tar"}


def test_an_erased_image_is_in_no_kept_row_of_a_shard(root: Path, store: Store) -> None:
    everything = list_rows(store, source(root), 0.0, Watched())
    erased = Erased().with_more([everything.rows[0].image_id], ())
    assert (hide_erased(store, erased), hide_erased(store, erased)) == (1, 0)
    kept = list_rows(store, source(root), 0.0, not_now)
    erased.save(store)
    store.remove(SHARDS)
    left = [row.image_id for row in everything.rows[1:]]
    for listed in (kept, list_rows(store, source(root), 0.0, Watched())):
        assert ids(listed) == sorted(["", *left])
        (hidden,) = (row for row in listed.rows if row.image_id == "")
        assert (hidden.uri, hidden.tags, hidden.reason) == ("", (), ERASED)


def test_what_lies_beside_shards_and_in_them_is_counted(root: Path, store: Store) -> None:
    write_tar(root / "a.tar", [*sample("x", split="test"), ("x.xmp", b"-"), ("x.heic", b"-")])
    for name in ("notes.txt", "b.part", ".DS_Store", "README"):
        (root / name).write_bytes(b"-")
    listed = list_rows(store, source(root), 0.0, one_by_one)
    assert listed.others == {
        **dict.fromkeys((".xmp", ".heic", ".txt", ".part", "hidden", "without a suffix"), 1)
    }
    assert (listed.found, len(listed.rows), listed.skipped) == (9, 2, 1)
