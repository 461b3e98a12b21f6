"""What a store does, in a folder and in a bucket alike."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dcsp.errors import StoreError
from dcsp.store.store import Store
from tests.tables.samples import noise, numbers


def test_what_is_written_is_read_back(store: Store) -> None:
    store.write_bytes("a/b/raw", b"\x00\x01")
    store.write_json("a/b/value.json", {"é": [1, 2.5, None]})
    size = store.write_table("a/b/part.parquet", numbers(5))
    assert store.read_bytes("a/b/raw") == b"\x00\x01"
    assert store.read_json("a/b/value.json") == {"é": [1, 2.5, None]}
    assert store.read_table("a/b/part.parquet").equals(numbers(5))
    assert store.read_table("a/b/part.parquet", ["value"]).column_names == ["value"]
    sizes = store.sizes("a/b")
    assert sizes == {"raw": 2, "part.parquet": size, "value.json": sizes["value.json"]}
    assert sizes["value.json"] == len(store.read_bytes("a/b/value.json"))


def test_a_file_is_replaced_whole(store: Store) -> None:
    store.write_table("part.parquet", numbers(1000))
    store.write_table("part.parquet", numbers(2))
    assert store.read_table("part.parquet").num_rows == 2
    assert store.list("") == ["part.parquet"]


def test_listing_tells_files_folders_and_parts(store: Store) -> None:
    for name in ("cues/ab/one.parquet", "cues/ab/two.parquet", "cues/ab/stage.json", "cues/cues/x"):
        store.write_bytes(name, b"x")
    assert store.list("cues/ab") == ["one.parquet", "stage.json", "two.parquet"]
    assert store.parts("cues/ab") == {"one", "two"}
    assert store.list("cues") == ["ab", "cues"]  # a folder may bear its parent's name
    assert store.sizes("cues") == {"ab": 0, "cues": 0}
    assert store.list("") == ["cues"]
    assert store.list("nothing/here") == [] and store.parts("nothing") == set()


def test_existence_is_of_files(store: Store) -> None:
    store.write_bytes("a/b", b"")
    assert store.exists("a/b")
    assert not store.exists("a") and not store.exists("a/c") and not store.exists("z/z")


def test_what_is_not_there_is_one_clear_error(store: Store) -> None:
    for read in (store.read_bytes, store.read_json, store.read_table):
        with pytest.raises(StoreError, match=rf"The store {store.url} has no a/b\."):
            read("a/b")


def test_removal_takes_files_and_folders_and_forgives_absence(store: Store) -> None:
    for name in ("a/b", "a/c/d", "e"):
        store.write_bytes(name, b"x")
    store.remove("a")
    store.remove("a")
    assert store.list("") == ["e"]
    store.remove("e")
    assert store.list("") == []


def test_damaged_json_names_its_file(store: Store) -> None:
    store.write_bytes("run.json", b'{"a": ')
    with pytest.raises(StoreError, match=r"run\.json is not valid JSON"):
        store.read_json("run.json")


def test_json_that_other_readers_refuse_is_never_written(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_json("metrics.json", {"miou": float("nan")})
    assert not store.exists("metrics.json")


def test_a_missing_column_is_named(store: Store) -> None:
    store.write_table("part.parquet", numbers(3))
    with pytest.raises(StoreError, match=r"part\.parquet has no column label, status: .*remove it"):
        store.read_table("part.parquet", ["status", "value", "label"])


def test_torn_tables_are_told_from_whole_ones(store: Store) -> None:
    store.write_table("part.parquet", noise(300))
    whole = store.read_bytes("part.parquet")
    for tenth in range(10):
        store.write_bytes("torn.parquet", whole[: len(whole) * tenth // 10])
        with pytest.raises(StoreError, match=r"torn\.parquet is torn or no Parquet file"):
            store.read_table("torn.parquet")
    store.write_bytes("torn.parquet", b"not a table" * 100)
    with pytest.raises(StoreError, match=r"torn\.parquet is torn or no Parquet file"):
        store.read_table("torn.parquet")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"])
@pytest.mark.parametrize("operation", ["exists", "list", "read", "write", "remove", "path"])
def test_names_never_leave_the_store(tmp_path: Path, name: str, operation: str) -> None:
    store = Store(tmp_path / "store")
    operations: dict[str, Callable[[], object]] = {
        "exists": lambda: store.exists(name),
        "list": lambda: store.list(name),
        "read": lambda: store.read_bytes(name),
        "write": lambda: store.write_bytes(name, b"x"),
        "remove": lambda: store.remove(name),
        "path": lambda: store.path(name),
    }
    with pytest.raises(StoreError, match="is no name inside a store"):
        operations[operation]()
    assert list(tmp_path.iterdir()) == []


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.write_bytes("a", b"x")
    assert pickle.loads(pickle.dumps(store)).read_bytes("a") == b"x"


def test_a_relative_store_is_the_same_one_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("./here")
    store.write_bytes("a", b"x")
    sent = pickle.dumps(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(sent).read_bytes("a") == b"x" and store.exists("a")


@pytest.mark.parametrize("spelling", ["file://{}/here", "~/here", "{}/here/"])
def test_local_stores_have_paths_that_every_reader_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Store(spelling.format(tmp_path))
    store.write_table("part.parquet", numbers(2))
    assert store.is_local and Path(store.path("part.parquet")) == tmp_path / "here/part.parquet"
    assert len(pd.read_parquet(store.path("part.parquet"))) == 2
