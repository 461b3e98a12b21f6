"""File systems of stores and corpora, and the faults of object stores that pass by themselves.

Three layers try again, each what the one below it cannot see:

1. botocore, one request until its answer begins: the statuses 429, 500, 502, 503 and 504, codes of
   throttling, connections that are refused, closed or silent. Exponential backoff with full jitter.
2. s3fs, one request with its body: bodies that break off, timeouts, ``SlowDown``; five times.
3. :func:`retried`, a whole operation, such as a listing with all its pages: what is still there of
   the named faults below, within the limits of a :class:`Retries`.

Every operation of a store can be repeated: a file is put whole, and a repeated put writes the same
bytes. Faults that last (denied access, no such bucket, a certificate) are raised at once.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import fsspec

from dcsp.telemetry import RETRIED, job_at, tell
from dcsp.text import shown

Result = TypeVar("Result")

REQUEST_TRIES = 3
"""Attempts of botocore at one request; its own default in the mode ``standard``."""
S3_OPTIONS: dict[str, Any] = {
    "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": REQUEST_TRIES}}
}

TRANSIENT_CODES = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException"),
        *("RequestLimitExceeded", "RequestThrottled", "TooManyRequestsException"),
        *("InternalError", "InternalServerError", "OperationAborted"),
        *("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"),
        # What the server received is not what was sent: the body broke on its way.
        *("BadDigest", "IncompleteBody"),
        *("XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    }
)
"""Codes of S3 answers that may be another one at the next try."""
TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses of the same kind, for answers without a code (those to HEAD)."""
_MISSING_BUCKET = "NoSuchBucket"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """How often an operation is tried, and how long that may go on.

    Attributes:
        tries: Attempts at most.
        unreachable_tries: Attempts where nobody answers at the address, and nobody ever did in this
            process: that is mostly a mistake. One who has answered before is being restarted.
        first_pause: Longest pause before the second attempt, in seconds; it doubles each time.
        longest_pause: What it doubles up to.
        seconds: After so long no further attempt begins.
    """

    tries: int = 7
    unreachable_tries: int = 2
    first_pause: float = 0.5
    longest_pause: float = 16.0
    seconds: float = 120.0

    def allowed(self, error: Exception) -> int:
        """Attempts at an operation that failed so: 1 for a fault that lasts."""
        if is_unreachable(error) and not _contact.is_made:
            return self.unreachable_tries
        return self.tries if is_transient(error) else 1

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt, counted from 1: anything up to the exponential limit.

        Full jitter: many workers that were refused at the same moment come back at many.
        """
        return random.uniform(0, min(self.longest_pause, self.first_pause * 2 ** (attempt - 1)))


RETRIES = Retries()


class _Contact:
    """Whether somebody has answered this process, or the one that sent it its work."""

    is_made = False


_contact = _Contact()


def expect_answers() -> None:
    """Say that the address is right: another process has been answered there."""
    _contact.is_made = True


def retried(operation: Callable[[], Result], retries: Retries | None = None) -> Result:
    """What an operation returns, at the first attempt that no transient fault spoils.

    Args:
        operation: May run several times.
        retries: The limits; left out: :data:`RETRIES`.

    Raises:
        Exception: What the last attempt raised.
    """
    limits = retries or RETRIES
    end = time.monotonic() + limits.seconds
    for attempt in itertools.count(1):
        try:
            result = operation()
        except FileNotFoundError:
            expect_answers()  # that is one
            raise
        except Exception as error:
            if attempt >= limits.allowed(error) or time.monotonic() >= end:
                raise
            pause = limits.pause(attempt)
            tell(RETRIED, 1, stage=job_at()["stage"], of="store")
            _log.info(
                "attempt %d failed (%s), the next one in %.2f s", attempt, reason(error), pause
            )
        else:
            expect_answers()
            return result
        time.sleep(pause)
    raise AssertionError  # a count has no end


def open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path there.

    Raises:
        ValueError: The URL's protocol is unknown.
        ImportError: It needs a package that is not installed.
    """
    options = S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
    fs, path = fsspec.url_to_fs(  # type: ignore[no-untyped-call]
        url, use_listings_cache=False, **options
    )
    return fs, str(path)


def is_transient(error: BaseException) -> bool:
    """Whether the same operation may well succeed in a moment."""
    return any(_is_transient(cause) for cause in _causes(error))


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answers at the address: no such host, or a refused connection."""
    return any(isinstance(cause, _connector_errors()) for cause in _causes(error))


def is_missing_bucket(error: BaseException) -> bool:
    """Whether there is no such bucket; s3fs takes that for a file that is not there."""
    return any(_code(cause) == _MISSING_BUCKET for cause in _causes(error))


def codes(error: BaseException) -> frozenset[str]:
    """Codes of the S3 answers behind an error."""
    return frozenset(code for cause in _causes(error) if (code := _code(cause)))


def remote_errors() -> tuple[type[Exception], ...]:
    """What reading and writing can raise: s3fs lets some errors of botocore through."""
    try:
        from aiohttp import ClientError as HTTPError
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
    except ImportError:
        return (OSError,)
    # ValueError: what botocore says of an endpoint that is no URL.
    return (OSError, BotoCoreError, ClientError, ResponseParserError, HTTPError, ValueError)


def reason(error: BaseException) -> str:
    """What an error says, on one line and without the credentials of a URL."""
    return shown(" ".join(str(error).split()) or type(error).__name__).rstrip(".")


def cure(error: BaseException) -> str:
    """What to do about a fault of an object store."""
    if is_unreachable(error):
        return "check the address (AWS_ENDPOINT_URL) and the network"
    if is_missing_bucket(error):
        return "check the name of the bucket"
    if is_transient(error):
        return "it was tried several times; submit the job again later"
    return "check the address, the credentials and the permissions"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what botocore wraps without saying so."""
    waiting: list[Any] = [error]
    seen: list[BaseException] = []
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and not any(cause is other for other in seen):
            seen.append(cause)
            yield cause
            waiting += [cause.__cause__, getattr(cause, "kwargs", {}).get("error")]


def _code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _is_transient(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return _code(error) in TRANSIENT_CODES or status in TRANSIENT_STATUSES
    return isinstance(error, transient_errors()) and not isinstance(error, _lasting_errors())


@cache
def transient_errors() -> tuple[type[BaseException], ...]:
    """Errors of connections that break, fall silent, or bring less than was promised."""
    found: list[type[BaseException]] = [ConnectionError, TimeoutError]
    try:
        import aiohttp
        from botocore import exceptions as boto
        from botocore.parsers import ResponseParserError
    except ImportError:
        return tuple(found)
    found += [boto.ConnectionClosedError, boto.EndpointConnectionError, boto.ConnectTimeoutError]
    found += [boto.ReadTimeoutError, boto.ResponseStreamingError, boto.IncompleteReadError]
    found += [boto.FlexibleChecksumError, boto.HTTPClientError]
    found += [aiohttp.ClientPayloadError, aiohttp.ClientConnectionError]
    found += [ResponseParserError]  # a proxy in between answered with a page of its own
    return tuple(found)


@cache
def _lasting_errors() -> tuple[type[BaseException], ...]:
    """Of the classes of :func:`transient_errors` those that no patience helps."""
    try:
        import aiohttp
        from botocore import exceptions as boto
    except ImportError:
        return ()
    return (boto.SSLError, aiohttp.ClientSSLError)


@cache
def _connector_errors() -> tuple[type[BaseException], ...]:
    try:
        import aiohttp
    except ImportError:
        return (ConnectionRefusedError,)
    return (aiohttp.ClientConnectorError, ConnectionRefusedError)
