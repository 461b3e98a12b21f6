"""Fetching an image by its URL, from a server that may be slow, broken or hostile.

The host's name is looked up once and its address is judged before it is connected to, so that a
name which changes its address in between gains nothing; every redirect is judged in the same way. A
clock of its own ends an attempt, wherever it stands. What went wrong has one of the reasons
``http_refused``, ``http_status`` and ``http_too_large``, which last, and those of :data:`PASSING`.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from dcsp.config import HttpSettings
from dcsp.corpus.sources.hosts import PATIENCE, Hosts
from dcsp.corpus.sources.urls import REFUSED, Address, is_public, parse_url, require_allowed
from dcsp.errors import ImageError
from dcsp.images.isolated import check_images
from dcsp.telemetry import RETRIED, job_at, tell

STATUS, TOO_LARGE = "http_status", "http_too_large"
BUSY, TIMEOUT, FAILED = "http_busy", "http_timeout", "http_failed"
PASSING = frozenset({BUSY, TIMEOUT, FAILED})
"""Reasons that may be gone a moment later: such an image is asked for again by the next ingest."""
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_BUSY = (408, 425, 429)  # and all from 500 on
_CHUNK = 2**16
_HOSTS = Hosts()


class _TryAgain(ImageError):
    """An attempt failed in a way that the next one need not; may say how long to wait, in s."""

    def __init__(self, reason: str, message: str, wait: float = 0.0) -> None:
        super().__init__(reason, message)
        self.wait = wait


def fetch(url: str, settings: HttpSettings) -> bytes:
    """The content of a URL.

    An image costs ``settings.attempts``; while its host is down, as other images show, or asks for
    a pause, it waits and costs none (:class:`Hosts`).

    Raises:
        ImageError: With a reason that begins with ``http_``; the message does not name the URL.
    """
    address = parse_url(url)
    require_allowed(address, settings.hosts)
    end = time.monotonic() + PATIENCE
    tries = 0
    fault = ImageError(FAILED, f"{address.place} fails for too long: it was left alone")
    while _HOSTS.wait_for(address.place):
        try:
            content = _attempt(url, settings)
        except _TryAgain as error:
            tries += 1
            fault = ImageError(error.reason, f"{error}, {tries} times" if tries > 1 else str(error))
            rests = _HOSTS.failed(address.place, error.wait)
            if tries >= settings.attempts and not (rests and time.monotonic() < end):
                break
            tell(RETRIED, 1, stage=job_at()["stage"], of="http")
            if not rests:
                time.sleep(0.5 * 2 ** (tries - 1) * random.uniform(0.5, 1.5))
        else:
            _HOSTS.succeeded(address.place)
            return content
    raise fault


def _attempt(url: str, settings: HttpSettings) -> bytes:
    """Ask once, and follow redirects."""
    clock = _Clock(settings.timeout_seconds)
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            address = parse_url(url)
            require_allowed(address, settings.hosts)
            content, moved = _ask(address, settings, clock)
            if content is not None:
                return content
            url = urljoin(url, moved)
        raise ImageError(STATUS, f"it redirects more than {_MOST_REDIRECTS} times")
    except ImageError as error:
        if clock.is_over and error.reason == FAILED:  # it ended the connection itself
            raise _timeout(settings) from None
        raise
    except ssl.SSLCertVerificationError as error:
        message = f"its certificate does not hold ({error.verify_message})"
        raise ImageError(FAILED, message) from None
    except ValueError as error:  # of a redirect that is no URL
        raise ImageError(STATUS, f"its server redirects to nonsense ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        if clock.is_over or isinstance(error, TimeoutError):
            raise _timeout(settings) from None
        told = " ".join(str(error).split()) or type(error).__name__
        raise _TryAgain(FAILED, f"its server cannot be talked to ({told[:200]})") from None
    finally:
        clock.stop()


def _timeout(settings: HttpSettings) -> _TryAgain:
    return _TryAgain(TIMEOUT, f"it did not come within {settings.timeout_seconds:g} s")


def _ask(address: Address, settings: HttpSettings, clock: _Clock) -> tuple[bytes | None, str]:
    """One request: the content, or where it moved to."""
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.host, address.port)
    with closing(connection):
        _connect(connection, address, settings, clock)
        connection.putrequest("GET", address.target, skip_accept_encoding=True)
        for name, value in (
            ("User-Agent", "dcsp"),
            ("Accept", "image/*,*/*;q=0.1"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as response:
            if response.status in _REDIRECTS and response.headers["Location"]:
                moved = response.headers["Location"]  # its bytes, taken for Latin-1
                return None, moved.encode("latin-1", "replace").decode(errors="replace")
            if response.status in _BUSY or response.status >= 500:
                wait = _seconds(response.headers.get("Retry-After", ""))
                raise _TryAgain(BUSY, f"its server says {response.status}", wait)
            if response.status != 200:
                raise ImageError(STATUS, f"its server says {response.status}")
            return _body(response, settings.max_bytes, clock), ""


def _seconds(retry_after: str) -> float:
    """What a server asks to wait, in seconds or until a date; 0 where it makes no sense."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without its zone
        return 0.0


def _body(response: http.client.HTTPResponse, limit: int, clock: _Clock) -> bytes:
    """The content of a response, whole."""
    if (response.length or 0) > limit:
        raise _too_large(limit)
    content = bytearray()
    while chunk := response.read(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise _too_large(limit)
    is_bare = response.length is None and not response.chunked  # it ends where the connection does
    ends_early = response.length or clock.is_over or (is_bare and _is_cut(bytes(content)))
    if ends_early or not content:
        raise _TryAgain(FAILED, f"its server sent {len(content)} bytes and no more")
    return bytes(content)


def _is_cut(content: bytes) -> bool:
    """Whether an image ends too early, where nothing but itself can tell."""
    (found,) = check_images([content])
    return isinstance(found, ImageError) and found.reason == "truncated"


def _too_large(limit: int) -> ImageError:
    return ImageError(TOO_LARGE, f"it has more bytes than corpus.http.max_bytes={limit}")


def _connect(
    connection: http.client.HTTPConnection, address: Address, settings: HttpSettings, clock: _Clock
) -> None:
    """Connect to one of the addresses of a host, all of which must be public."""
    found = clock.wait_for(lambda: _look_up(address.host, address.port))
    places = list(dict.fromkeys(str(info[4][0]) for info in found))
    inner = [place for place in places if not is_public(place)]
    if inner and not settings.allow_private:
        raise ImageError(REFUSED, f"{address.host} has the address {inner[0]}, which is not public")
    for number, place in enumerate(places, start=1):
        share = clock.left() / (len(places) - number + 1)
        try:
            connection.sock = socket.create_connection((place, address.port), share)
            break
        except OSError:
            if number == len(places):
                raise
    else:
        raise OSError(f"{address.host} has no address")
    connection.sock.settimeout(clock.left())
    clock.watch(connection.sock)
    if address.scheme == "https":
        secure = ssl.create_default_context().wrap_socket(
            connection.sock, server_hostname=address.host, do_handshake_on_connect=False
        )
        connection.sock = secure
        clock.watch(secure)
        secure.do_handshake()


def _look_up(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Clock:
    """Ends an attempt when its time is over: a server may send a byte now and then for ever."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._end = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def left(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            TimeoutError: None are.
        """
        left = self._end - time.monotonic()
        if self.is_over or left <= 0:
            raise TimeoutError
        return left

    def watch(self, connection: socket.socket) -> None:
        """Shut this connection down when the time is over."""
        self._socket = connection
        self.left()

    def wait_for(self, look: Callable[[], list[Any]]) -> list[Any]:
        """The result of a call that cannot be interrupted; its thread is left behind if need be.

        Raises:
            TimeoutError: It did not come in time.
            OSError: As the call raised it.
        """
        found: Future[list[Any]] = Future()

        def run() -> None:
            try:
                found.set_result(look())
            except (OSError, UnicodeError) as error:
                found.set_exception(error if isinstance(error, OSError) else OSError(str(error)))

        threading.Thread(target=run, daemon=True).start()
        return found.result(self.left())

    def stop(self) -> None:
        """The attempt has ended."""
        self._timer.cancel()

    def _ring(self) -> None:
        self.is_over = True
        if self._socket is not None:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                return
