"""What killed writers leave is seen and swept; deletes that fail for some files are told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcsp.errors import StoreError
from dcsp.store.store import Store
from dcsp.store.sweep import (
    abort_upload,
    empty_folders,
    look,
    remove_empty_folders,
    remove_files,
    uploads,
)
from tests.stores import BUCKET


@contextmanager
def undeletable(store: Store, *names: str) -> Iterator[None]:
    """The bucket refuses to delete some files, and no other."""
    places = [f"arn:aws:s3:::{store.location(name)}" for name in names]
    rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": places}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    store.filesystem.call_s3("put_bucket_policy", Bucket=BUCKET, Policy=policy)
    try:
        yield
    finally:
        store.filesystem.call_s3("delete_bucket_policy", Bucket=BUCKET)


def test_a_delete_that_a_bucket_refuses_for_some_files_is_told(s3_store: Store) -> None:
    for name in ("t/a", "t/b", "t/c"):
        s3_store.write_bytes(name, b"x")
    with undeletable(s3_store, "t/b"):
        s3_store.filesystem.rm(s3_store.location("t"), recursive=True)
        assert s3_store.list("t") == ["b"], "s3fs says nothing of it"
        with pytest.raises(StoreError, match=r"Cannot remove t in the store .*permissions"):
            s3_store.remove("t")
        assert s3_store.list("t") == ["b"]
    s3_store.remove("t")
    assert s3_store.list("t") == []


def test_many_files_are_removed_whatever_becomes_of_one(s3_store: Store) -> None:
    names = [f"t/{number}" for number in range(40)]
    for name in names:
        s3_store.write_bytes(name, b"x")
    with (
        undeletable(s3_store, "t/7"),
        pytest.raises(StoreError, match=r"1 file of 40 could not be removed.*t/7 in the store"),
    ):
        remove_files(s3_store, names)
    assert s3_store.list("t") == ["7"]
    remove_files(s3_store, names)
    assert look(s3_store) == {}


def test_every_file_is_seen_with_its_size_and_age(store: Store) -> None:
    store.write_bytes("b/c/x", b"abc")
    store.write_bytes("b/.tmp-1", b"")
    store.write_bytes("a", b"a")
    seen = look(store)
    assert {name: file.bytes for name, file in seen.items()} == {"a": 1, "b/.tmp-1": 0, "b/c/x": 3}
    assert all(abs(file.written - time.time()) < 60 for file in seen.values())


def test_an_upload_that_did_not_end_is_seen_and_given_up(s3_store: Store) -> None:
    key = s3_store.location("corpus/parts/x.parquet").removeprefix(f"{BUCKET}/")
    other = "elsewhere/x"
    call = s3_store.filesystem.call_s3
    for name in (key, other):
        begun = call("create_multipart_upload", Bucket=BUCKET, Key=name)
        call("upload_part", Bucket=BUCKET, Key=name, UploadId=begun["UploadId"], PartNumber=1)
    [upload] = uploads(s3_store)
    assert upload.name == "corpus/parts/x.parquet"
    assert upload.begun < time.time()  # this server says 2010
    abort_upload(s3_store, upload)
    abort_upload(s3_store, upload)  # gone already
    assert uploads(s3_store) == []
    assert [told["Key"] for told in call("list_multipart_uploads", Bucket=BUCKET)["Uploads"]] == [
        other
    ]


def test_folders_that_hold_no_file_are_seen_and_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_bytes("a/b/c/file", b"x")
    for name in ("a/b/empty", "x/y/z", "linked"):
        (tmp_path / name).mkdir(parents=True)
    os.symlink(tmp_path / "linked", tmp_path / "a/link")
    assert sorted(empty_folders(store)) == ["a/b/empty", "linked", "x", "x/y", "x/y/z"]
    remove_empty_folders(store)
    assert empty_folders(store) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert store.read_bytes("a/b/c/file") == b"x" and (tmp_path / "a/link").is_symlink()


def test_a_bucket_has_no_empty_folders_and_a_disk_no_uploads(store: Store) -> None:
    store.write_bytes("a/b", b"x")
    assert empty_folders(store) == [] and uploads(store) == []
