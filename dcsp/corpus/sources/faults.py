"""Faults of reading: those of one file are told of that file, those of its place are raised."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from dcsp.errors import CorpusError, ImageError, PlaceError
from dcsp.store.remote import (
    cure,
    is_missing_bucket,
    open_filesystem,
    reason,
    remote_errors,
    retried,
)

Result = TypeVar("Result")


def ask(fs: Any, uri: str, operation: Callable[[], Result]) -> Result:
    """What an operation on a file system returns, again where a passing fault spoils it.

    Args:
        fs: The file system.
        uri: What is read, for the message.
        operation: May run several times.

    Raises:
        OSError: Of one file, or of a local disk.
        PlaceError: The place itself fails.
    """
    if isinstance(fs, LocalFileSystem):
        return operation()
    try:
        return retried(operation)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if is_missing_bucket(error):
            raise _place_error(uri, error) from error
        raise
    except remote_errors() as error:
        raise _place_error(uri, error) from error


def ask_of(uri: str, operation: Callable[[], Result]) -> Result:
    """What reading one file returns: :func:`ask`, of its path or URL.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
        PlaceError: The place itself fails.
    """
    fs, _ = open_filesystem(uri)
    with told_of_one_file(type(fs), uri):
        return ask(fs, uri, operation)


@contextmanager
def told_of_one_file(kind: type[Any], uri: str) -> Iterator[None]:
    """Turn what is wrong with one file into an error about it; faults of the place stay theirs.

    Args:
        kind: Class of the file system that the file is on.
        uri: Of the file.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
    """
    try:
        yield
    except IsADirectoryError as error:
        raise ImageError("unreadable", f"{uri} is a folder") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", f"there is no file {uri}") from error
    except PermissionError as error:
        if not issubclass(kind, LocalFileSystem):  # credentials, which every file needs
            raise
        message = f"this account may not read {uri}: change its permissions"
        raise ImageError("unreadable", message) from error
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise ImageError("unreadable", f"{uri} is no regular file: remove it") from error
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise ImageError("missing", f"there is no file {uri} ({error.strerror})") from error
        raise  # of the disk, not of the name


@contextmanager
def told_of_parquet(uri: str) -> Iterator[None]:
    """Turn what Arrow raises of damaged bytes into one error; faults of a disk stay theirs.

    Raises:
        PlaceError: Not the bytes are at fault but the bucket or the network.
        CorpusError: They are no Parquet file, or a damaged one.
    """
    try:
        yield
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            # Of a disk, a bucket or a network: Arrow raises a bare OSError of bytes.
            if "://" not in uri or uri.startswith(("file://", "local://")):
                raise
            raise _place_error(uri, error) from error
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"{uri} is no readable Parquet file ({reason}): write it anew."
        ) from error


def _place_error(uri: str, error: Exception) -> PlaceError:
    """What to tell of a place that cannot be read."""
    return PlaceError(f"Cannot read {uri} ({reason(error)}): {cure(error)}.")
