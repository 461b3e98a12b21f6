"""Files of a store appear whole or not at all, whoever is killed or writes beside."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dcsp.errors import StoreError
from dcsp.store.store import TEMPORARY_PREFIX, Store
from tests.tables.samples import noise, numbers

KILLED_WRITER = """
import os, sys, time
import numpy as np, pyarrow as pa
from dcsp.store.store import Store

def stop_before_the_rename(descriptor):
    print("writing", flush=True)
    time.sleep(60)

os.fsync = stop_before_the_rename
Store(sys.argv[1]).write_table("cues/part.parquet", pa.table({"bytes": [os.urandom(1 << 20)]}))
"""

READER = """
import sys
from dcsp.store.store import Store

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
    for version in itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count(1)):
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
