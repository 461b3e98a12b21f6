"""Passing faults of an object store cost time and nothing else; lasting ones cost no time."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import s3fs
from aiohttp import ClientConnectorError, ClientPayloadError
from botocore import exceptions as boto
from botocore.exceptions import ClientError

from dcsp.corpus.sources.files import Folder, read_uri
from dcsp.corpus.sources.folder import FolderSource
from dcsp.errors import CorpusError, DcspError, PlaceError, StoreError
from dcsp.store import remote
from dcsp.store.lease import LEASE, Lease
from dcsp.store.remote import Retries, is_transient, retried
from dcsp.store.store import Store
from dcsp.store.sweep import is_temporary
from tests.faults.running import MIXTURE, Proxy, proxy, rates
from tests.stores import BUCKET
from tests.tables.samples import noise

QUICK = Retries(first_pause=0.01, longest_pause=0.05)
SHARE = 0.25
"""Of all requests that are spoiled: five times what the chain is tested with."""


def answer(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )


def wrapped(inner: Exception) -> OSError:
    """As s3fs wraps it."""
    outer = OSError(5, "in other words")
    outer.__cause__ = inner
    return outer


class Refused(ClientConnectorError):
    def __init__(self) -> None:
        OSError.__init__(self, 111, "Connection refused")

    def __str__(self) -> str:
        return "Connection refused"


PASSING = [
    wrapped(answer("SlowDown", 503)),
    wrapped(answer("InternalError", 500)),
    wrapped(answer("503", 503)),
    wrapped(answer("RequestTimeout", 400)),
    wrapped(answer("BadDigest", 400)),
    boto.ConnectionClosedError(endpoint_url="http://x"),
    boto.ReadTimeoutError(endpoint_url="http://x"),
    boto.ResponseStreamingError(error="half"),
    boto.EndpointConnectionError(endpoint_url="http://x", error=OSError("broken pipe")),
    ClientPayloadError("half"),
    ConnectionResetError(104, "reset by peer"),
    TimeoutError(),
]
LASTING = [
    wrapped(answer("AccessDenied", 403)),
    wrapped(answer("NoSuchBucket", 404)),
    wrapped(answer("SignatureDoesNotMatch", 403)),
    wrapped(answer("PreconditionFailed", 412)),
    boto.SSLError(endpoint_url="https://x", error="certificate"),
    boto.NoCredentialsError(),
    PermissionError(13, "Permission denied"),
    FileNotFoundError(2, "no such file"),
    ValueError("no fault of a place"),
    StoreError("a user's mistake"),
]


def tries_of(error: Exception, retries: Retries) -> int:
    seen = []

    def fail() -> None:
        seen.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        retried(fail, retries)
    assert caught.value is error
    return len(seen)


@pytest.mark.parametrize("error", PASSING, ids=lambda e: f"{type(e).__name__} {e.__cause__ or ''}")
def test_a_passing_fault_is_tried_again_and_not_for_ever(error: Exception) -> None:
    assert is_transient(error)
    assert tries_of(error, QUICK) == QUICK.tries


@pytest.mark.parametrize("error", LASTING, ids=lambda e: f"{type(e).__name__} {e.__cause__ or ''}")
def test_a_lasting_fault_is_never_tried_again(error: Exception) -> None:
    assert tries_of(error, QUICK) == 1


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that nobody has answered yet."""
    monkeypatch.setattr(remote, "_contact", remote._Contact())


def test_where_nobody_ever_answered_little_is_tried(stranger: None) -> None:
    error = boto.EndpointConnectionError(endpoint_url="http://x", error=Refused())
    assert tries_of(error, QUICK) == QUICK.unreachable_tries == 2
    assert tries_of(FileNotFoundError(2, "that is an answer"), QUICK) == 1
    assert tries_of(error, QUICK) == QUICK.tries


def test_a_worker_knows_that_its_store_has_answered(stranger: None) -> None:
    sent = pickle.dumps(Store(f"s3://{BUCKET}/x"))
    error = boto.EndpointConnectionError(endpoint_url="http://x", error=Refused())
    assert tries_of(error, QUICK) == QUICK.unreachable_tries
    pickle.loads(sent)
    assert tries_of(error, QUICK) == QUICK.tries


def test_a_server_that_is_restarted_is_waited_for(
    s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(s3_server, {}) as first:
        monkeypatch.setenv("AWS_ENDPOINT_URL", first.address)
        s3fs.S3FileSystem.clear_instance_cache()
        store = Store(f"s3://{BUCKET}/restarted")
        store.write_bytes("a", b"whole")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.read_bytes, "a")
        time.sleep(1.0)
        assert not reading.done()
        with proxy(s3_server, {}, port=int(first.address.rpartition(":")[2])):
            assert reading.result() == b"whole"
    s3fs.S3FileSystem.clear_instance_cache()


def test_time_limits_the_attempts_as_well() -> None:
    started = time.monotonic()
    tries = tries_of(TimeoutError(), Retries(tries=10**6, first_pause=0.01, seconds=0.3))
    assert 3 < tries < 1000 and time.monotonic() - started < 5


def test_pauses_double_up_to_a_limit_and_spread_over_all_of_it() -> None:
    retries = Retries(first_pause=1.0, longest_pause=8.0)
    for attempt, limit in enumerate([1, 2, 4, 8, 8, 8], start=1):
        pauses = [retries.pause(attempt) for _ in range(400)]
        assert 0 <= min(pauses) < 0.1 * limit and 0.9 * limit < max(pauses) <= limit


def test_messages_are_one_line_without_credentials() -> None:
    told = remote.reason(OSError("cannot reach\nhttps://me:hush@store:9000/x?y."))
    assert told == "cannot reach https://…@store:9000/x?y"


@pytest.fixture
def faulty(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the environment points to, without faults so far."""
    monkeypatch.setattr(remote, "RETRIES", QUICK)
    with proxy(s3_server, {}, seed=7) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
        s3fs.S3FileSystem.clear_instance_cache()
        yield found
    s3fs.S3FileSystem.clear_instance_cache()


def test_many_operations_under_many_faults_leave_exactly_what_was_written(faulty: Proxy) -> None:
    store = Store(f"s3://{BUCKET}/faulty")
    tables = {f"p{number:02d}": noise(40, seed=number) for number in range(24)}
    faulty.set(rates(SHARE))

    def work(part: str) -> None:
        name = f"cues/ab/{part}.parquet"
        assert not store.exists(name)
        size = store.write_table(name, tables[part])
        assert store.exists(name) and len(store.read_bytes(name)) == size
        assert store.read_table(name).equals(tables[part])
        store.write_json(f"corpus/batches/{part}.json", {"part": part})
        assert store.read_json(f"corpus/batches/{part}.json") == {"part": part}
        if part < "p12":
            store.remove(f"corpus/batches/{part}.json")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, tables))
    assert store.parts("cues/ab") == set(tables)
    assert store.list("corpus/batches") == [f"{part}.json" for part in tables if part >= "p12"]
    assert not any(map(is_temporary, store.files()))
    counts = faulty.counts()
    spoiled = {name: counts.get(name, 0) for name in MIXTURE}
    assert min(spoiled.values()) >= 1 and sum(spoiled.values()) > 0.15 * counts["requests"], counts
    faulty.set({})
    for part, table in tables.items():
        assert store.read_table(f"cues/ab/{part}.parquet").equals(table)


def test_a_long_listing_is_whole_under_faults(
    faulty: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"s3://{BUCKET}/long")
    names = {f"{number:03d}" for number in range(60)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write_bytes(f"t/{name}.parquet", b"x"), names))
    pages(monkeypatch, size=5)
    before = faulty.counts()["requests"]
    faulty.set(rates(SHARE))
    assert store.parts("t") == names
    assert set(Folder(f"{store.url}/t").find()) == {f"{name}.parquet" for name in names}
    assert faulty.counts()["requests"] - before > 2 * 12, "it came in pages"


def pages(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Listings come in pages of so many names."""
    real = s3fs.S3FileSystem._call_s3

    async def call_s3(fs: Any, method: str, *options: Any, **named: Any) -> Any:
        if method == "list_objects_v2":
            named["MaxKeys"] = size
        return await real(fs, method, *options, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call_s3)


def test_a_source_in_a_bucket_is_read_through_faults(faulty: Proxy) -> None:
    root = f"s3://{BUCKET}/photos"
    images = {f"{number:02d}.jpg": random.Random(number).randbytes(4000) for number in range(20)}
    for name, data in images.items():
        Store(root).write_bytes(name, data)
    faulty.set(rates(SHARE))
    rows = FolderSource(root, ("train",), tagged=False).list_rows().rows
    assert {row.uri.rpartition("/")[2]: read_uri(row.uri) for row in rows} == images
    found = Folder(root).read_many([*images, "none.jpg"])
    assert isinstance(found.pop("none.jpg"), Exception)
    assert found == images
    assert sum(faulty.counts().values()) - faulty.counts()["requests"] > 8


def test_a_lease_is_one_under_faults_and_lost_answers(faulty: Proxy) -> None:
    store = Store(f"s3://{BUCKET}/leased")
    faulty.set({"reset_after": 0.3, "slow_down": 0.1})
    for _ in range(3):
        with Lease(store, "relabel", "demo") as own:
            own.confirm()
            with pytest.raises(StoreError, match="Another job"), Lease(store, "relabel", "demo"):
                pass
    faulty.set({})
    assert not store.exists(LEASE)


def test_silence_is_a_fault_like_others(faulty: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.5)
    store = Store(f"s3://{BUCKET}/silent")
    store.write_bytes("a", b"whole")
    faulty.set({"stall": 1.0})
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.read_bytes, "a")
        while faulty.counts().get("stall", 0) < 2:
            time.sleep(0.05)
        faulty.set({})
        assert reading.result() == b"whole"


def told_at_once(operation: Any, kind: type[DcspError]) -> str:
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        operation()
    assert time.monotonic() - started < 20
    told = str(caught.value)
    assert "\n" not in told and told.endswith(".") and "Traceback" not in told
    return told


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid:9000", "9"])
def test_a_wrong_address_is_told_in_seconds(
    s3_server: str, stranger: None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()
    store = Store(f"s3://{BUCKET}/x")
    told = told_at_once(lambda: Lease(store, "relabel", "demo").__enter__(), StoreError)
    assert f"Cannot write LEASE in the store s3://{BUCKET}/x (" in told and address in told
    assert "check the address" in told
    listing = told_at_once(FolderSource(f"s3://{BUCKET}/p", ("train",)).list_rows, CorpusError)
    assert f"s3://{BUCKET}/p" in listing
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_source_that_may_not_be_listed_or_read_is_told(
    s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied") from answer("AccessDenied", 403)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", denied)
    for ask in (
        lambda: FolderSource(f"s3://{BUCKET}/p", ("train",)).list_rows().rows,
        lambda: read_uri(f"s3://{BUCKET}/p/a.jpg"),
    ):
        told = told_at_once(ask, PlaceError)
        assert "(Access Denied): check the address, the credentials and the permissions" in told
