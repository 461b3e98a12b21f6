"""Places that are not there, may not be used or hold what others left: one clear error."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import s3fs

from dcsp.errors import StoreError
from dcsp.store.store import Store
from tests.tables.samples import numbers

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
