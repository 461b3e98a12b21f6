"""Files of a store appear whole or not at all, in a folder and in a bucket alike."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import s3fs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsp.errors import StoreError
from dcsp.tables.codecs import encode_labels
from dcsp.tables.schemas import CUES
from dcsp.tables.store import TEMPORARY_PREFIX, Store

LABELS = np.array([[0, 1, 2, 20], [255, 2, 0, 0], [3, 3, 3, 3]], dtype=np.uint8)
OPERATIONS: dict[str, Callable[[Store], object]] = {
    "exists": lambda store: store.exists("a/b"),
    "list": lambda store: store.list("a"),
    "parts": lambda store: store.parts("a"),
    "read_bytes": lambda store: store.read_bytes("a/b"),
    "read_json": lambda store: store.read_json("a/b"),
    "read_table": lambda store: store.read_table("a/b"),
    "write_bytes": lambda store: store.write_bytes("a/b", b"x"),
    "write_table": lambda store: store.write_table("a/b", numbers(3)),
    "remove": lambda store: store.remove("a"),
}


def numbers(rows: int) -> pa.Table:
    return pa.table({"image_id": [f"image{i}" for i in range(rows)], "value": list(range(rows))})


def noise(rows: int, seed: int = 0) -> pa.Table:
    """A table that does not compress, so that its bytes are mostly pages."""
    data = np.random.default_rng(seed).bytes(rows * 64)
    return pa.table({"bytes": [data[i * 64 : (i + 1) * 64] for i in range(rows)]})


# --- the same behaviour on every kind of store ----------------------------------------------------


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
    with pytest.raises(StoreError, match=r"part\.parquet has no column label, status\."):
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


# --- faults of places -----------------------------------------------------------------------------


def test_an_unknown_protocol_says_what_is_known() -> None:
    with pytest.raises(StoreError, match="use a local path or s3://bucket/prefix"):
        Store("nosuch://bucket")


@pytest.mark.parametrize("operation", ["list", "exists", "read_bytes", "write_bytes"])
def test_a_root_that_is_a_file(tmp_path: Path, operation: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreError, match="check the path, the permissions"):
        OPERATIONS[operation](Store(tmp_path / "file"))


def test_a_table_that_may_not_be_read_is_not_called_torn(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").mkdir()
    with pytest.raises(StoreError, match="Cannot read") as caught:
        Store(tmp_path).read_table("part.parquet")
    assert "torn" not in str(caught.value)


def check_one_sentence(error: StoreError, url: str) -> None:
    text = str(error)
    assert url in text and "\n" not in text and text.endswith(".")
    assert "Traceback" not in text and "botocore" not in text


@pytest.mark.parametrize("operation", ["read_bytes", "read_table", "write_bytes", "write_table"])
def test_a_missing_bucket_is_one_clear_error(s3_server: str, operation: str) -> None:
    url = "s3://no-such-bucket/store"
    with pytest.raises(StoreError) as caught:
        OPERATIONS[operation](Store(url))
    check_one_sentence(caught.value, url)


def check_every_operation_says(store: Store, text: str) -> None:
    for name, operation in OPERATIONS.items():
        try:
            operation(store)
        except StoreError as error:
            assert text in str(error), name
            check_one_sentence(error, store.url)
        else:
            pytest.fail(f"{name} raised nothing")


def test_a_name_that_no_bucket_can_have(s3_server: str) -> None:
    check_every_operation_says(Store("s3://No!Bucket/store"), "Invalid bucket name")


def test_denied_access_is_one_clear_error(s3_store: Store, s3_server: str) -> None:
    def demand_keys(after: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{s3_server}/moto-api/reset-auth", after, headers)
        urllib.request.urlopen(request).close()

    demand_keys(b"0")
    try:
        check_every_operation_says(s3_store, "check the address, the credentials")
    finally:
        demand_keys(b"inf")


def test_missing_credentials_are_one_clear_error(
    s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        check_every_operation_says(Store("s3://labels/x"), "Unable to locate credentials")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_marker_objects_of_other_tools_are_no_entries(s3_store: Store) -> None:
    bucket, prefix = s3_store.url.removeprefix("s3://").split("/", 1)
    client = s3fs.S3FileSystem()
    client.call_s3("put_object", Bucket=bucket, Key=f"{prefix}/", Body=b"")
    client.call_s3("put_object", Bucket=bucket, Key=f"{prefix}/cues/", Body=b"")
    s3_store.write_bytes("cues/x", b"1")
    assert s3_store.list("") == ["cues"] and s3_store.list("cues") == ["x"]


# --- atomicity ------------------------------------------------------------------------------------

KILLED_WRITER = """
import os, sys, time
import numpy as np, pyarrow as pa
from dcsp.tables.store import Store

def stop_before_the_rename(descriptor):
    print("writing", flush=True)
    time.sleep(60)

os.fsync = stop_before_the_rename
Store(sys.argv[1]).write_table("cues/part.parquet", pa.table({"bytes": [os.urandom(1 << 20)]}))
"""

READER = """
import sys
from dcsp.tables.store import Store

store, reads, seen = Store(sys.argv[1]), 0, set()
print("ready", flush=True)
while not store.exists("stop"):
    rows = store.read_table("part.parquet")["value"].to_pylist()
    assert rows == [rows[0]] * len(rows) and len(rows) == 1000 + rows[0], rows[:3]
    assert store.parts("") == {"part"}, store.parts("")
    seen.add(rows[0])
    reads += 1
print(reads, len(seen))
"""


def start(script: str, store: Store) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, store.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_writer_killed_at_work_leaves_nothing_to_see(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer = start(KILLED_WRITER, store)
    assert first_line(writer) == "writing"
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(10) == -signal.SIGKILL
    (left,) = (tmp_path / "cues").iterdir()
    assert left.name.startswith(TEMPORARY_PREFIX) and left.stat().st_size > 1 << 20
    assert store.list("cues") == [] and store.parts("cues") == set()
    assert not store.exists("cues/part.parquet")
    store.write_table("cues/part.parquet", numbers(4))
    assert store.read_table("cues/part.parquet").equals(numbers(4))
    assert store.list("cues") == ["part.parquet"]


def test_readers_in_other_processes_never_see_a_part_of_a_file(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def write(version: int) -> None:
        store.write_table("part.parquet", pa.table({"value": [version] * (1000 + version)}))

    write(0)
    readers = [start(READER, store) for _ in range(2)]
    assert [first_line(reader) for reader in readers] == ["ready"] * 2
    deadline = time.monotonic() + 1.5
    for version in itertools.takewhile(lambda _: time.monotonic() < deadline, range(1, 200)):
        write(version)
    store.write_bytes("stop", b"")
    for reader in readers:
        output, _ = reader.communicate(timeout=30)
        reads, versions = map(int, output.split())
        assert reader.returncode == 0 and reads > 3 and versions > 1
    assert store.parts("") == {"part"}


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write_bytes("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"Cannot write a .*No space left on device.*free space"):
        store.write_bytes("a", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert store.read_bytes("a") == b"old"


def test_many_writers_of_one_file_leave_one_of_their_versions(store: Store) -> None:
    tables = [noise(200, seed) for seed in range(4)]
    threads = [
        threading.Thread(target=store.write_table, args=("part.parquet", table)) for table in tables
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(store.read_table("part.parquet").equals(table) for table in tables)
    assert store.list("") == ["part.parquet"]


def test_damage_inside_a_part_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table("part.parquet", noise(300))
    whole = store.read_bytes("part.parquet")
    for position in np.random.default_rng(0).integers(200, len(whole) - 2000, 50):
        bent = bytearray(whole)
        bent[position] ^= 0x10
        store.write_bytes("bent.parquet", bytes(bent))
        with pytest.raises(StoreError, match=r"bent\.parquet is torn"):
            store.read_table("bent.parquet")


# --- bytes and other readers ----------------------------------------------------------------------


@given(
    values=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_equal_tables_give_equal_bytes(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes | None], cuts: list[int]
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "equal")
    whole = pa.table({"label": pa.array(values, pa.binary())})
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    pieces = [whole.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    store.write_table("whole", whole)
    store.write_table("pieces", pa.concat_tables(pieces))
    assert store.read_bytes("whole") == store.read_bytes("pieces")
    assert store.read_table("whole").equals(whole)


def cue_rows() -> pa.Table:
    cue = {name: None for name in CUES.names} | {"method": "dcsp", "phase": 0, "tags": [1, 2]}
    cue |= {"height": 3, "width": 4}
    done = cue | {"image_id": "one", "status": "ok", "label": encode_labels(LABELS)}
    failed = cue | {"image_id": "two", "status": "error", "error": "truncated: too short"}
    return pa.Table.from_pylist([done, failed], CUES)


def test_pandas_reads_a_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table("cues/part.parquet", cue_rows())
    frame = pd.read_parquet(store.path("cues/part.parquet"))
    assert list(frame["image_id"]) == ["one", "two"] and list(frame["status"]) == ["ok", "error"]
    assert list(frame["tags"][0]) == [1, 2]
    with Image.open(io.BytesIO(frame["label"][0])) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), LABELS)


def test_duckdb_reads_a_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table("cues/part.parquet", cue_rows())
    rows = duckdb.sql(
        f"select image_id, height, width, label, tags from '{tmp_path}/cues/*.parquet' "
        "where status = 'ok'"
    ).fetchall()
    ((image_id, height, width, label, tags),) = rows
    assert (image_id, tags) == ("one", [1, 2])
    with Image.open(io.BytesIO(label)) as image:
        assert (image.height, image.width) == (height, width)
        np.testing.assert_array_equal(np.array(image), LABELS)
