"""Writes that say what they replace: of those who race, one wins and the others know it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dcsp.errors import StoreError
from dcsp.store import conditional
from dcsp.store.conditional import read_version, remove_file, write_over
from dcsp.store.store import Store
from dcsp.store.sweep import is_temporary

COUNTER = """
import sys
from dcsp.store.conditional import read_version, write_over
from dcsp.store.store import Store
from dcsp.store.sweep import is_temporary

store, done = Store(sys.argv[1]), 0
print("ready", flush=True)
sys.stdin.readline()
while done < 40:
    found = read_version(store, "count")
    number = int(found.data) + 1 if found else 1
    done += write_over(store, "count", str(number).encode(), found and found.version)
"""


@pytest.fixture(params=["folder", "folder without links", "bucket", "bucket without conditions"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store of every kind."""
    if request.param == "bucket":
        found = request.getfixturevalue("s3_store")
        assert isinstance(found, Store)
        return found
    if request.param == "bucket without conditions":
        monkeypatch.setattr(conditional, "SETTLE_SECONDS", 0.001)
        fsspec.filesystem("memory").store.clear()
        return Store(f"memory://{tmp_path.name}")
    if request.param == "folder without links":

        def link(*_: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    return Store(tmp_path / "store")


def test_a_file_is_made_once(shelf: Store) -> None:
    assert read_version(shelf, "a") is None
    assert write_over(shelf, "a", b"first", None)
    assert not write_over(shelf, "a", b"second", None)
    assert shelf.read_bytes("a") == b"first"
    assert shelf.list("") == ["a"] and not any(map(is_temporary, shelf.files()))


def test_a_file_is_replaced_by_those_who_know_what_it_is(shelf: Store) -> None:
    write_over(shelf, "a", b"first", None)
    first = read_version(shelf, "a")
    assert first is not None and first.data == b"first"
    assert write_over(shelf, "a", b"second", first.version)
    assert not write_over(shelf, "a", b"third", first.version)
    assert shelf.read_bytes("a") == b"second"
    remove_file(shelf, "a")
    remove_file(shelf, "a")
    assert not write_over(shelf, "a", b"fourth", first.version), "what is gone is not replaced"
    assert not shelf.exists("a")


def test_processes_that_count_together_lose_no_count(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    counters = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for counter in counters:
        assert counter.stdout.readline() == b"ready\n"  # type: ignore[union-attr]
    for counter in counters:
        counter.communicate(b"go\n", timeout=60)
        assert counter.returncode == 0
    assert Store(tmp_path).read_bytes("count") == b"120"
    assert not any(map(is_temporary, Store(tmp_path).files()))


def test_a_store_that_refuses_conditions_gets_the_next_best(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError

    real, seen = s3_store.filesystem.pipe_file, []

    def pipe_file(path: str, data: bytes, **options: Any) -> Any:
        seen.append(sorted(options))
        if options:
            answer = {"Error": {"Code": "NotImplemented", "Message": "A header is not implemented"}}
            raise OSError(errno.ENOSYS, "not implemented") from ClientError(answer, "PutObject")
        return real(path, data)

    monkeypatch.setattr(s3_store.filesystem, "pipe_file", pipe_file)
    monkeypatch.setattr(conditional, "SETTLE_SECONDS", 0.001)
    assert write_over(s3_store, "a", b"first", None)
    assert not write_over(s3_store, "a", b"second", None)
    assert s3_store.read_bytes("a") == b"first"
    assert seen == [["IfNoneMatch"], [], ["IfNoneMatch"]]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Cannot write a in the store"):
        write_over(Store(tmp_path / "file"), "a", b"x", None)
