"""One job at a time works on a store; who is killed, suspended or far away keeps nobody out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.errors import StoreError
from dcsp.store import lease
from dcsp.store.lease import LEASE, Holder, Lease
from dcsp.store.store import Store

HOLDER = """
import sys, time
from dcsp.errors import StoreError
from dcsp.store.lease import Lease
from dcsp.store.store import Store

lost = []
own = Lease(Store(sys.argv[1]), "relabel", "far", float(sys.argv[2]), lambda: lost.append(1))
try:
    with own:
        print("holds", flush=True)
        while not lost:
            time.sleep(0.05)
        own.check()
except StoreError as error:
    print(error, lost, flush=True)
"""


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def hold(
    store: Store, holders: list[subprocess.Popen[str]], seconds: float = 300.0
) -> subprocess.Popen[str]:
    """A process that holds the lease."""
    command = [sys.executable, "-c", HOLDER, store.url, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    holders.append(process)
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    return process


def take(store: Store) -> Lease:
    return Lease(store, "relabel", "demo")


def change(store: Store, **fields: Any) -> None:
    store.write_bytes(LEASE, json.dumps(store.read_json(LEASE) | fields).encode())


def test_the_second_job_is_told_who_works_there(store: Store) -> None:
    with take(store), pytest.raises(StoreError) as refused, take(store):
        pytest.fail("two jobs at once")
    told = str(refused.value)
    assert told.startswith("Another job (relabel of demo on ") and f"pid {os.getpid()}" in told
    assert f"remove {store.path(LEASE)} if it is known to be dead; it expires in " in told
    assert "\n" not in told
    with take(store):
        pass
    assert not store.exists(LEASE) and store.list("") == []


def test_the_lease_is_given_back_after_an_error_and_after_ctrl_c(store: Store) -> None:
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), take(store):
            raise error
        assert not store.exists(LEASE)


@pytest.mark.parametrize("is_buried", [True, False])
def test_of_a_killed_process_of_this_machine_nobody_waits_for_the_end(
    store: Store, holders: list[subprocess.Popen[str]], is_buried: bool
) -> None:
    process = hold(store, holders)
    with pytest.raises(StoreError, match=f"relabel of far on .*, pid {process.pid}"), take(store):
        pass
    process.send_signal(signal.SIGKILL)
    if is_buried:
        process.wait(30)
    else:
        while lease._born(process.pid):
            time.sleep(0.01)
    with take(store):
        assert store.read_json(LEASE)["pid"] == os.getpid()


def test_an_id_of_a_process_that_is_used_again_is_another_process(store: Store) -> None:
    with take(store):
        change(store, id="other", born="1")
        with take(store):
            assert store.read_json(LEASE)["born"] == lease._born(os.getpid()) != ""


def test_a_killed_job_of_another_machine_keeps_others_out_until_its_lease_expires(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Holder.here("relabel", "demo", 300)
    store.write_bytes(LEASE, gone.to_bytes())
    change(store, machine="another boot", host="node-7", pid=1)
    with (
        pytest.raises(
            StoreError, match=r"on node-7, pid 1, .*it expires in (5 min 5\d s|6 min 0 s)\."
        ),
        take(store),
    ):
        pass
    late = time.time() + 300 + lease.SKEW - 5
    monkeypatch.setattr(time, "time", lambda: late)
    with pytest.raises(StoreError, match=r"expires in [1-5]\.\d s"), take(store):
        pass
    monkeypatch.setattr(time, "time", lambda: late + 10)
    with take(store):
        assert store.read_json(LEASE)["host"] != "node-7"


def test_a_job_that_may_wait_takes_the_lease_when_the_other_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WAIT_PAUSE", 0.05)
    said: list[str] = []
    first = take(store)
    first.__enter__()
    ending = threading.Timer(0.5, first.__exit__)
    ending.start()
    with Lease(store, "relabel", "later", wait=30.0, on_wait=said.append):
        assert store.read_json(LEASE)["run"] == "later"
    assert len(said) == 1 and said[0].startswith("waiting for another job (relabel of demo on ")
    started = time.monotonic()
    with take(store), pytest.raises(StoreError, match="Another job"):
        Lease(store, "relabel", "impatient", wait=0.3).__enter__()
    assert 0.3 <= time.monotonic() - started < 10


def test_a_lease_is_renewed_for_as_long_as_the_job_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SKEW", 0.0)
    with Lease(store, "relabel", "demo", seconds=3.0) as own:
        first = store.read_json(LEASE)["expires"]
        time.sleep(3.2)
        own.check()
        with pytest.raises(StoreError, match="Another job"), take(store):
            pass
        assert store.read_json(LEASE)["expires"] > first


def test_a_job_that_was_suspended_finds_its_lease_taken_and_leaves_it(
    store: Store, holders: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SKEW", 0.0)
    process = hold(store, holders, seconds=3.0)
    process.send_signal(signal.SIGSTOP)
    while not Holder.parse(store.read_bytes(LEASE)).is_gone():
        time.sleep(0.1)
    with take(store) as ours:
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=30)
        assert f"lost the store {store.url} to another job (relabel of demo" in said
        assert said.endswith("[1]\n"), "it was called once"
        ours.confirm()
        assert store.read_json(LEASE)["pid"] == os.getpid(), "it did not remove what is not its own"


def test_a_lease_that_somebody_removed_is_taken_anew_or_lost(store: Store) -> None:
    with take(store) as own:
        store.remove(LEASE)
        own.confirm()
        assert store.read_json(LEASE)["pid"] == os.getpid()
        store.remove(LEASE)
        with take(store):
            own.check()  # costs nothing while the lease is good by the clock …
            with pytest.raises(StoreError, match="lost the store"):
                own.confirm()  # … and this asks
            with pytest.raises(StoreError, match="lost the store"):
                own.check()


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    store, ready, done = Store(tmp_path), threading.Barrier(8), threading.Barrier(8)
    got: list[str] = []

    def come() -> None:
        ready.wait()
        try:
            with take(store):
                got.append("held")
                done.wait()
        except StoreError as error:
            got.append(str(error))
            done.wait()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count("held") == 1, got
    assert all(told == "held" or told.startswith("Another job") for told in got)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"job": 1', b"null", b"\xff"])
def test_what_is_no_lease_is_told_and_not_overwritten(store: Store, content: bytes) -> None:
    store.write_bytes(LEASE, content)
    told = r"LEASE is no lease that this version of dcsp reads \(.*\): remove it if no other job"
    with pytest.raises(StoreError, match=told), take(store):
        pass
    assert store.read_bytes(LEASE) == content


def test_an_account_that_may_not_remove_files_leaves_a_lease_that_has_expired(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(store: Store, name: str) -> None:
        raise StoreError("Access Denied")

    monkeypatch.setattr(lease, "remove_file", remove)
    with take(store):
        pass
    assert Holder.parse(store.read_bytes(LEASE)).is_gone()
    with take(store):
        assert not Holder.parse(store.read_bytes(LEASE)).is_gone()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=50)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_content_is_a_lease_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        Holder.parse(content)


@settings(max_examples=50)
@given(st.fixed_dictionaries({}, optional={name: JSON for name in Holder.__dataclass_fields__}))
def test_any_fields_are_a_lease_or_a_value_error(fields: dict[str, Any]) -> None:
    good = json.loads(Holder.here("relabel", "demo", 300).to_bytes())
    try:
        found = Holder.parse(json.dumps(good | fields).encode())
    except ValueError:
        return
    assert isinstance(found.is_gone(), bool) and str(found)
