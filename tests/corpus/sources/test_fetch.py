"""Images by URL, from a real server that is slow, broken or hostile in every way we know."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from dcsp.config import CorpusSettings, HttpSettings
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources import fetch as fetching
from dcsp.corpus.sources.fetch import PASSING, fetch
from dcsp.corpus.sources.hosts import Hosts
from dcsp.corpus.sources.open import open_source
from dcsp.errors import ImageError
from dcsp.labels import TagMapper
from tests.corpus.tars import picture
from tests.http_server import Server, response, serve
from tests.networks.test_fetch import write_certificate


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose failures are forgotten before the next test; pauses take no time."""
    monkeypatch.setattr(fetching, "_HOSTS", Hosts())
    slept, now = [0.0], time.monotonic
    monkeypatch.setattr(fetching.time, "sleep", lambda s: slept.append(slept.pop() + s))
    monkeypatch.setattr(fetching.time, "monotonic", lambda: now() + slept[0])
    with serve() as running:
        yield running


def settings(server: Server, **changes: Any) -> HttpSettings:
    given = {"hosts": (f"127.0.0.1:{server.port}",), "allow_private": True, "timeout_seconds": 20}
    return HttpSettings.model_validate({**given, **changes})


def refusal(url: str, limits: HttpSettings) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        fetch(url, limits)
    return caught.value.reason, str(caught.value)


def test_an_image_is_fetched_with_a_plain_request(server: Server) -> None:
    url = server.says("/a.jpg?w=1", response(b"image"))
    assert fetch(url, settings(server)) == b"image"
    (request,) = server.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /a.jpg?w=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines and "Accept-Encoding: identity" in lines


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nima\r\n2\r\nge\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nimage",
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"image"),
        response(b"image", "200 OK", "Content-Type: text/html"),
    ],
    ids=["chunked", "until it ends", "continue", "another type"],
)
def test_answers_of_every_honest_form_are_read(server: Server, answer: bytes) -> None:
    assert fetch(server.says("/a", answer), settings(server)) == b"image"


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        (response(b"no", "404 Not Found"), "http_status", "says 404"),
        (response(b"no", "403 Forbidden"), "http_status", "says 403"),
        (response(b"", "204 No Content"), "http_status", "says 204"),
        (response(b"", "302 Found"), "http_status", "says 302"),
        (response(b"x" * 101), "http_too_large", "max_bytes=100"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "http_too_large", ""),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 101, "http_too_large", "max_bytes=100"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n"
            + b"x" * 101
            + b"\r\n0\r\n\r\n",
            "http_too_large",
            "max_bytes=100",
        ),
        (response(b"", "302 Found", "Location: http://[/"), "http_status", "nonsense"),
        (response(b"", "302 Found", "Location: file:///etc/passwd"), "http_refused", "no http"),
        (response(b"", "302 Found", "Location: http://169.254.169.254/"), "http_refused", "allow"),
    ],
)
def test_what_stays_wrong_is_asked_for_once(
    server: Server, answer: bytes, reason: str, told: str
) -> None:
    found = refusal(server.says("/a", answer), settings(server, max_bytes=100))
    assert found[0] == reason and told in found[1]
    assert reason not in PASSING
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"", "503 Service Unavailable"), "http_busy"),
        (response(b"", "500 Oops"), "http_busy"),
        (response(b"", "522 Connection Timed Out"), "http_busy"),
        (response(b"", "408 Request Timeout"), "http_busy"),
        (response(b"", "425 Too Early"), "http_busy"),
        (response(b"", "429 Too Many Requests"), "http_busy"),
        (response(b"", "429 Too Many Requests", "Retry-After: soon"), "http_busy"),
        (response(b"", "429 Busy", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), "http_busy"),
        (b"", "http_failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "http_failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", "http_failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\nha", "http_failed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http_failed"),
        (b"HTTP/1.1 abc\r\n\r\n", "http_failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "http_failed"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000, "http_failed"),
    ],
)
def test_what_may_pass_is_asked_for_again(server: Server, answer: bytes, reason: str) -> None:
    url = server.says("/a", answer)
    found = refusal(url, settings(server, attempts=3))
    assert found[0] == reason and "3 times" in found[1]
    assert reason in PASSING
    assert len(server.requests) == 3


def test_a_server_that_comes_back_is_forgiven(server: Server) -> None:
    answers = [response(b"", "500 Oops"), b"", response(b"image")]
    server.answers["/a"] = lambda connection: connection.sendall(answers.pop(0))
    assert fetch(server.url("/a"), settings(server)) == b"image"


def test_pauses_between_the_attempts_at_an_image_grow(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(fetching.time, "sleep", pauses.append)
    refusal(server.says("/a", response(b"", "503 Busy")), settings(server, attempts=4))
    assert [0.25 * 2**i <= pause <= 0.75 * 2**i for i, pause in enumerate(pauses)] == [True] * 3


def in_http(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("asked", "shortest", "longest"),
    [("7", 7, 8), (30, 25, 31), ("86400", 60, 61), (86400, 60, 61)],
    ids=["seconds", "a date", "a day", "the date of tomorrow"],
)
def test_a_pause_that_a_server_asks_for_costs_no_attempt(
    server: Server, asked: str | int, shortest: float, longest: float
) -> None:
    asked = asked if isinstance(asked, str) else in_http(asked)
    answers = [response(b"", "429 Busy", f"Retry-After: {asked}"), response(b"image")]
    server.answers["/a"] = lambda connection: connection.sendall(answers.pop(0))
    started = time.monotonic()
    assert fetch(server.url("/a"), settings(server, attempts=1)) == b"image"
    assert shortest - 0.1 <= time.monotonic() - started <= longest + 5


def test_redirects_are_followed_to_allowed_hosts_and_not_for_ever(server: Server) -> None:
    server.says("/image", response(b"image"))
    server.says("/1", response(b"", "301 Moved", "Location: /image"))
    server.says("/2", response(b"", "308 Moved", f"Location: {server.url('/1')}"))
    server.says("/3", response(b"", "307 Moved", "Location: 2"))
    server.says("/4", response(b"", "303 Moved", "Location: /3"))
    server.says("/b%C3%BCro", response(b"office"))
    server.says("/5", response(b"", "302 Found", "Location: /büro"))
    assert fetch(server.url("/5"), settings(server)) == b"office"
    assert fetch(server.url("/3"), settings(server)) == b"image"
    assert refusal(server.url("/4"), settings(server)) == (
        "http_status",
        "it redirects more than 3 times",
    )
    with serve() as other:
        away = other.says("/secret", response(b"secret"))
        server.says("/away", response(b"", "302 Found", f"Location: {away}"))
        assert refusal(server.url("/away"), settings(server))[0] == "http_refused"
        assert other.requests == []


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b""),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: ", b"b"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
    ],
    ids=["silent", "continues", "headers", "one header", "body", "chunks", "until it ends"],
)
def test_an_attempt_ends_in_time_whatever_trickles_in(
    server: Server, head: bytes, piece: bytes
) -> None:
    url = server.drips("/slow", head, piece)
    started = time.monotonic()
    found = refusal(url, settings(server, timeout_seconds=0.5, attempts=1))
    assert found == ("http_timeout", "it did not come within 0.5 s")
    assert time.monotonic() - started < 20


def test_redirects_share_the_time_of_their_attempt(server: Server) -> None:
    def later(connection: socket.socket) -> None:
        time_up.wait(0.4)
        connection.sendall(response(b"", "302 Found", "Location: /a"))

    time_up = server.over
    server.answers["/a"] = later
    found = refusal(server.url("/a"), settings(server, timeout_seconds=0.6, attempts=1))
    assert found[0] == "http_timeout"


def test_a_look_up_of_a_host_may_not_hang(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_look_up", lambda *_: server.over.wait(60))
    started = time.monotonic()
    found = refusal(server.url("/a"), settings(server, timeout_seconds=0.3, attempts=1))
    assert found[0] == "http_timeout" and time.monotonic() - started < 20


def test_private_addresses_are_refused_before_anything_is_sent(server: Server) -> None:
    server.says("/a", response(b"secret"))
    for host in ("127.0.0.1", "localhost"):
        limits = settings(server, hosts=(f"{host}:{server.port}",), allow_private=False)
        reason, told = refusal(server.url("/a", host), limits)
        assert reason == "http_refused" and "which is not public" in told
    assert server.requests == []


def test_one_private_address_among_public_ones_is_enough(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", (place, 80)) for place in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(fetching, "_look_up", lambda *_: found)
    limits = settings(server, hosts=("img.example.org",), allow_private=False)
    assert "10.0.0.1" in refusal("http://img.example.org/a", limits)[1]


def test_the_address_that_was_judged_is_the_one_that_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has another address a moment later (DNS rebinding) gains nothing."""
    looked_up: list[str] = []

    def look_up(host: str, port: int) -> list[Any]:
        looked_up.append(host)
        place = "127.0.0.1" if len(looked_up) == 1 else "127.0.0.9"
        return [(0, 0, 0, "", (place, port))]

    monkeypatch.setattr(fetching, "_look_up", look_up)
    server.says("/a", response(b"image"))
    limits = settings(server, hosts=(f"img.example.org:{server.port}",))
    assert fetch(server.url("/a", "img.example.org"), limits) == b"image"
    assert looked_up == ["img.example.org"]
    assert f"Host: img.example.org:{server.port}".encode() in server.requests[0]


def test_another_address_is_tried_where_one_does_not_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(0, 0, 0, "", (place, 0)) for place in ("127.0.0.77", "127.0.0.1")]
    monkeypatch.setattr(fetching, "_look_up", lambda *_: found)
    server.says("/a", response(b"image"))
    limits = settings(server, hosts=(f"img.example.org:{server.port}",))
    assert fetch(server.url("/a", "img.example.org"), limits) == b"image"


def test_a_host_that_is_down_is_waited_for_and_in_the_end_left_alone(server: Server) -> None:
    server.says("/bad", b"")
    server.says("/good", response(b"image"))
    limits = settings(server, attempts=1)
    for _ in range(4):
        refusal(server.url("/bad"), limits)
    assert fetch(server.url("/good"), limits) == b"image"  # counting begins anew
    for _ in range(4):
        refusal(server.url("/bad"), limits)
    started, asked = time.monotonic(), len(server.requests)
    assert refusal(server.url("/bad"), limits)[0] == "http_failed"  # the fifth
    assert 100 < time.monotonic() - started < 140
    assert len(server.requests) - asked < 15
    asked = len(server.requests)
    assert "left alone" in refusal(server.url("/good"), limits)[1]
    assert len(server.requests) == asked
    fetching.time.sleep(61)
    assert fetch(server.url("/good"), limits) == b"image"


def test_a_dead_server_is_told(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    limits = settings(server, hosts=(f"127.0.0.1:{port}",), attempts=1)
    reason, told = refusal(f"http://127.0.0.1:{port}/a", limits)
    assert reason == "http_failed" and "refused" in told


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    write_certificate(tmp_path / "cert.pem")
    return tmp_path / "cert.pem"


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_is_fetched_from_whom_a_certificate_vouches_for(
    server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tls(certificate)) as secure:
        secure.says("/a", response(b"image"))
        url = secure.url("/a", scheme="https")
        reason, told = refusal(url, settings(secure))
        assert reason == "http_failed" and "certificate" in told
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(url, settings(secure)) == b"image"
        found = [(0, 0, 0, "", ("127.0.0.1", 0))]
        monkeypatch.setattr(fetching, "_look_up", lambda *_: found)
        limits = settings(secure, hosts=(f"img.example.org:{secure.port}",))
        assert "certificate" in refusal(secure.url("/a", "img.example.org", "https"), limits)[1]


def test_a_handshake_may_not_hang(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        limits = settings(server, hosts=(f"127.0.0.1:{port}",), timeout_seconds=0.5, attempts=1)
        started = time.monotonic()
        assert refusal(f"https://127.0.0.1:{port}/a", limits)[0] == "http_timeout"
        assert time.monotonic() - started < 20


def test_urls_of_a_tag_table_become_images_or_rows(server: Server, tmp_path: Path) -> None:
    server.says("/cat.png", response(picture(3)))
    server.says("/page.jpg", response(b"<html>not found</html>"))
    server.says("/cut.png", response(picture()[:40]))
    paths = ("cat.png", "page.jpg", "cut.png", "none.png")
    (tmp_path / "here.png").write_bytes(picture(9))
    urls = [server.url(f"/{path}") for path in paths]
    rows = "".join(f"{name},cat\n" for name in [*urls, "http://elsewhere.org/a.jpg", "here.png"])
    (tmp_path / "tags.csv").write_text(f"image,tags\n{rows}")
    corpus_settings = CorpusSettings(
        kind="folder", root=str(tmp_path), classes=("cat",), http=settings(server)
    )
    source = open_source(corpus_settings, 0)
    corpus, _, rejected = read_rows(
        source, source.list_rows().rows, TagMapper(("cat",)), corpus_settings
    )
    host = f"127.0.0.1_{server.port}"
    stored = dict(zip(corpus["image_id"].to_pylist(), corpus["bytes"].to_pylist(), strict=True))
    assert stored == {f"{host}/cat": picture(3), "here": picture(9)}
    assert {row["image_id"]: (row["stage"], row["reason"]) for row in rejected.to_pylist()} == {
        f"{host}/page": ("decode", "unreadable"),
        f"{host}/cut": ("decode", "unreadable"),
        f"{host}/none": ("read", "http_status"),
        "elsewhere.org/a": ("list", "http_refused"),
    }


def test_images_of_a_batch_are_fetched_at_once_and_keep_their_order(
    server: Server, tmp_path: Path
) -> None:
    four = threading.Barrier(4, timeout=30)  # nobody is answered before four have asked

    def together(value: int) -> Any:
        def answer(connection: socket.socket) -> None:
            four.wait()
            connection.sendall(response(picture(value)))

        return answer

    for number in range(24):
        server.answers[f"/{number}.png"] = together(number)
    lines = "".join(f"{server.url(f'/{n}.png')},cat\n" for n in range(24))
    (tmp_path / "tags.csv").write_text(f"image,tags\n{lines}")
    corpus_settings = CorpusSettings(
        kind="folder", root=str(tmp_path), classes=("cat",), http=settings(server)
    )
    source = open_source(corpus_settings, 0)
    corpus, _, _ = read_rows(source, source.list_rows().rows, TagMapper(("cat",)), corpus_settings)
    host = f"127.0.0.1_{server.port}"
    assert corpus["image_id"].to_pylist() == [f"{host}/{number}" for number in range(24)]
    assert corpus["bytes"].to_pylist() == [picture(number) for number in range(24)]
