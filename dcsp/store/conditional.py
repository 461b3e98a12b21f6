"""Small files that several machines may want to write: each write says what it replaces.

A write succeeds only while the file is still the version that its writer has read, or is still not
there. A folder does that with links and file locks, S3 with conditional puts. A store that has
neither gets the next best: write, wait until others are done writing, and look who was last.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from dcsp.store.remote import codes
from dcsp.store.store import TEMPORARY_PREFIX, Store, write_local

SETTLE_SECONDS = 2.0
"""What a write under way at another machine takes at most, where nothing better is to be had."""
LOCK_SECONDS = 5.0
"""After so long a file lock is given up: who holds it was suspended in a bad moment."""
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey", "404"}
_UNSUPPORTED = {"NotImplemented", "XNotImplemented", "501"}


class Versioned(NamedTuple):
    """A file as it was read.

    Attributes:
        data: Its content.
        version: Stands for exactly this content, in later calls.
    """

    data: bytes
    version: str


def read_version(store: Store, name: str) -> Versioned | None:
    """A file and its version; None where it is not there.

    Raises:
        StoreError: The store cannot be read.
    """
    target = store.location(name)

    def read() -> Versioned | None:
        try:
            # The version first: should the content be newer, a write over the version is refused.
            version = store.filesystem.info(target).get("ETag") if is_s3(store) else None
            data = bytes(store.filesystem.cat_file(target))
        except FileNotFoundError:
            return None
        return Versioned(data, str(version) if version else data.hex())

    return store.attempt("look up", name, read)


def write_over(store: Store, name: str, data: bytes, version: str | None) -> bool:
    """Write a file whole if it still is of a version.

    Args:
        store: The store.
        name: Of the file.
        data: Its new content.
        version: What it must be; None: it must not be there.

    Returns:
        Whether it was written. After False an answer may have been lost: who wants to be sure reads
        what is there now.

    Raises:
        StoreError: The store cannot be written.
    """

    def write() -> bool:
        if store.is_local:
            return _write_in_folder(Path(store.location(name)), data, version)
        if is_s3(store):
            done = _write_to_s3(store.filesystem, store.location(name), data, version)
            if done is not None:
                return done
        return _write_and_look(store, name, data, version)

    return store.attempt("write", name, write)


def remove_file(store: Store, name: str) -> None:
    """Remove one file, in one request; nothing happens when it is not there.

    Raises:
        StoreError: It cannot be removed.
    """

    def remove() -> None:
        with suppress(FileNotFoundError):
            store.filesystem.rm_file(store.location(name))

    store.attempt("remove", name, remove)


def _write_in_folder(path: Path, data: bytes, version: str | None) -> bool:
    if version is None:
        return _create(path, data)
    with _locked(path) as current:
        if current is None or current.hex() != version:
            return False
        write_local(path, data)
        return True


def _create(path: Path, data: bytes) -> bool:
    """A link to a finished file: it fails where there is one, and nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        write_local(temporary, data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with path.open("xb") as sink:
                sink.write(data)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[bytes | None]:
    """The content of a file that nobody replaces meanwhile; None where it is not there."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield None
            return
        try:
            _lock(descriptor)
            if _is_at(path, descriptor):  # else it was replaced while this waited
                yield os.read(descriptor, 1 << 20)
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # a network disk without locks
            return


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def is_s3(store: Store) -> bool:
    """Whether a store lies in a bucket of S3."""
    protocol: Any = getattr(store.filesystem, "protocol", ())
    return "s3" in ((protocol,) if isinstance(protocol, str) else protocol)


def _write_to_s3(fs: Any, target: str, data: bytes, version: str | None) -> bool | None:
    """Whether a conditional put was taken; None where the store knows no such thing."""
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    try:
        fs.pipe_file(target, data, **condition)
    except OSError as error:
        said = codes(error)
        if said & _UNSUPPORTED:
            return None
        if said & _REFUSED or (version is not None and isinstance(error, FileNotFoundError)):
            return False
        raise
    return True


def _write_and_look(store: Store, name: str, data: bytes, version: str | None) -> bool:
    current = read_version(store, name)
    if (current.version if current else None) != version:
        return False
    store.write_bytes(name, data)
    time.sleep(SETTLE_SECONDS)
    last = read_version(store, name)
    return last is not None and last.data == data
