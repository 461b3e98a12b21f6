"""An outage that passes loses no image: ingest waits, or the next one asks again by itself."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.ingest import Ingested
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.rejected import deferred_rows
from dcsp.corpus.sources import fetch as fetching
from dcsp.corpus.sources import hosts
from dcsp.corpus.sources.hosts import Hosts
from dcsp.errors import CorpusError
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, LATEST, part_file, rejected_file
from tests.corpus.shelf import ingest_here
from tests.corpus.tars import picture
from tests.http_server import Server, response, serve

Fault = Callable[[socket.socket], None]
IMAGES = 30


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of images, whose failures are forgotten before the next test."""
    monkeypatch.setattr(fetching, "_HOSTS", Hosts())
    with serve() as running:
        for number in range(IMAGES):
            running.says(f"/{number}.png", response(picture(number)))
        yield running


class Night:
    """Nights of one source and one store."""

    def __init__(self, server: Server, folder: Path, images: int = IMAGES, **changes: Any) -> None:
        lines = "".join(f"{server.url(f'/{number}.png')},cat\n" for number in range(images))
        (folder / "tags.csv").write_text(f"image,tags\n{lines}")
        http = {"hosts": (f"127.0.0.1:{server.port}",), "allow_private": True}
        self.settings = CorpusSettings.model_validate(
            {
                "kind": "folder",
                "root": str(folder),
                "classes": ("cat",),
                "part_rows": 10,
                "http": http,
                **changes,
            }
        )
        self.store = Store(folder / "store")

    def ingest(self) -> Ingested | None:
        """As the job does, in a process of its own; None where nothing is to do."""
        fetching._HOSTS.__init__()  # type: ignore[misc]
        listing = list_corpus(self.store, self.settings, seed=0)
        if listing.known():
            return None
        done = ingest_here(listing)
        listing.remember(done.snapshot, 1.0)
        return done

    def deferred(self) -> int:
        return len(deferred_rows(self.store.read_table(rejected_file(LATEST)).to_pylist()))

    def images(self, done: Ingested | None) -> list[bytes]:
        assert done is not None
        files = [part_file(CORPUS_DIRECTORY, part.name) for part in done.snapshot.parts]
        return [data for file in files for data in self.store.read_table(file)["bytes"].to_pylist()]


def during(server: Server, seconds: float, fault: Fault) -> None:
    """From the first request on, do something else for a while."""
    answers, started = dict(server.answers), threading.Event()
    times: list[float] = []

    def answered(path: str) -> Fault:
        def answer(connection: socket.socket) -> None:
            if not started.is_set():
                times.append(time.monotonic())
                started.set()
            (fault if time.monotonic() < times[0] + seconds else answers[path])(connection)

        return answer

    server.answers |= {path: answered(path) for path in answers}


def says(data: bytes) -> Fault:
    return lambda connection: connection.sendall(data)


def cut_photo() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 99).save(buffer, "JPEG")
    return buffer.getvalue()[:1500]


CUT = cut_photo()
FAULTS = {
    "busy": says(response(b"", "503 Service Unavailable")),
    "an error": says(response(b"oops", "500 Internal Server Error")),
    "a gateway": says(response(b"", "502 Bad Gateway")),
    "throttled": says(response(b"", "429 Too Many Requests", "Retry-After: 1")),
    "closed": lambda connection: connection.close(),
    "cut in the head": says(b"HTTP/1.1 200 OK\r\nContent-"),
    "cut in the body": says(response(picture(1))[:-20]),
    "cut without a length": says(b"HTTP/1.0 200 OK\r\n\r\n" + CUT),
    "empty": says(response(b"")),
    "nonsense": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_outage_of_a_moment_loses_nothing(server: Server, tmp_path: Path, fault: Fault) -> None:
    during(server, 1.5, fault)
    night = Night(server, tmp_path)
    done = night.ingest()
    assert sorted(night.images(done)) == sorted(map(picture, range(IMAGES)))
    assert night.ingest() is None


def test_a_name_that_is_not_found_for_a_moment_loses_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, end = fetching._look_up, time.monotonic() + 2

    def look_up(host: str, port: int) -> list[Any]:
        if time.monotonic() < end:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, port)

    monkeypatch.setattr(fetching, "_look_up", look_up)
    night = Night(server, tmp_path)
    assert len(night.images(night.ingest())) == IMAGES


def test_a_server_that_counts_requests_loses_nothing(server: Server, tmp_path: Path) -> None:
    answers, lock, budget = dict(server.answers), threading.Lock(), [8]
    end = [time.monotonic() + 1]

    def limited(path: str) -> Fault:
        def answer(connection: socket.socket) -> None:
            with lock:
                if time.monotonic() > end[0]:
                    budget[0], end[0] = 8, time.monotonic() + 1
                budget[0] -= 1
                left = budget[0]
            busy = says(response(b"", "429 Too Many Requests", "Retry-After: 1"))
            (answers[path] if left >= 0 else busy)(connection)

        return answer

    server.answers |= {path: limited(path) for path in answers}
    night = Night(server, tmp_path)
    assert len(night.images(night.ingest())) == IMAGES


@pytest.mark.parametrize("fault", ["busy", "closed", "cut in the body"])
@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_after_a_night_that_was_down_the_next_one_has_every_image(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    limit: float,
) -> None:
    good = dict(server.answers)
    server.answers |= {path: FAULTS[fault] for path in [*good][5:]}
    night = Night(server, tmp_path, max_rejected_share=limit)
    with monkeypatch.context() as patched:
        patched.setattr(hosts, "PATIENCE", 0.2)
        patched.setattr(fetching, "PATIENCE", 0.2)
        patched.setattr(hosts, "REST", 0.1)
        patched.setattr(fetching.random, "uniform", lambda *_: 0.01)
        for _ in range(2):  # nor does a second night that is down settle anything
            with (
                suppress(CorpusError)
                if limit == 1.0
                else pytest.raises(CorpusError, match=r"the next job asks for .* of them again")
            ):
                done = night.ingest()
                assert done is not None and 0 < len(night.images(done)) <= 5
                assert done.deferred == done.snapshot.rejected
            assert night.deferred() >= IMAGES - 5
    server.answers |= good
    done = night.ingest()
    assert sorted(night.images(done)) == sorted(map(picture, range(IMAGES)))
    assert night.deferred() == 0 and night.ingest() is None


def test_an_image_that_always_fails_is_asked_for_every_night_and_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.random, "uniform", lambda *_: 0.01)
    server.says("/3.png", response(b"", "500 Oops"))
    server.says("/4.png", response(b"", "404 Not Found"))
    night = Night(server, tmp_path)
    first = night.ingest()
    assert first is not None and (first.deferred, first.snapshot.rejected) == (1, 2)
    for _ in range(2):
        server.requests.clear()
        done = night.ingest()
        assert done is not None and done.snapshot == first.snapshot and done.deferred == 1
        assert {request.split()[1] for request in server.requests} == {b"/3.png"}
    server.says("/3.png", response(picture(3)))
    done = night.ingest()
    assert done is not None and (done.new, done.gone, done.deferred) == (1, 0, 0)
    assert len(night.images(done)) == IMAGES - 1
    assert night.ingest() is None


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["busy", "throttled", "cut in the body"])
def test_a_minute_of_outage_loses_nothing(server: Server, tmp_path: Path, fault: str) -> None:
    for number in range(IMAGES, 300):
        server.says(f"/{number}.png", response(picture(number % 256)))
    during(server, 60, FAULTS[fault])
    night = Night(server, tmp_path, images=300)
    assert len(night.images(night.ingest())) == 300
