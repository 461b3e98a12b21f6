"""Folders of a corpus behind one interface: local paths and every URL that fsspec knows (s3://)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from dcsp.errors import CorpusError, ImageError, PlaceError
from dcsp.store.remote import (
    cure,
    is_missing_bucket,
    is_transient,
    open_filesystem,
    reason,
    remote_errors,
    retried,
)

Result = TypeVar("Result")

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"),
    *("ppm", "pgm", "pbm", "jp2", "avif", "mpo"),
)
"""Extensions of what :func:`dcsp.images.decode.decode_rgb` reads, lower case, best first."""

_CHANGED = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
# What file systems call the time of a change, where they give no etag.
READ_AHEAD = 8 * 2**20
"""Bytes of a remote file that are fetched at a time when it is read from front to back."""


class Entry(NamedTuple):
    """What a folder lists.

    Attributes:
        etag: Changes when the content does.
        is_linked_folder: It is a link to a folder, which is not followed.
    """

    etag: str
    is_linked_folder: bool


@dataclass(frozen=True)
class Folder:
    """A folder that is only read.

    Attributes:
        root: Local path or fsspec URL.
    """

    root: str

    def uri(self, name: str) -> str:
        """Path or URL of a file given by its name under the root."""
        return f"{self.root.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or a folder of this name."""
        fs, path = self._locate(name)
        return ask(fs, self.uri(name), lambda: bool(fs.exists(path)))

    def find(self, name: str = "") -> dict[str, str]:
        """Every file below a folder: its name under that folder → an etag, sorted by name.

        Hidden files and folders are left out; a folder that is not there holds nothing.
        """
        return {
            file: entry.etag
            for file, entry in self.entries(name).items()
            if not entry.is_linked_folder
        }

    def entries(self, name: str = "") -> dict[str, Entry]:
        """As :meth:`find`, and links to folders besides."""
        fs, path = self._locate(name)
        start = len(path.rstrip("/")) + 1
        listed = ask(fs, self.uri(name), lambda: fs.find(path, detail=True))
        found = {full[start:]: info for full, info in listed.items() if info}
        return {
            file: Entry(_etag(_followed(fs, found[file])), _is_linked_folder(found[file]))
            for file in sorted(found)
            if file and not any(step.startswith(".") for step in file.split("/"))
        }

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | ImageError]:
        """The bytes of several files, or why there are none; fetched together from remote places.

        Raises:
            PlaceError: The place itself fails.
        """
        fs, root = self._locate("")
        paths = {f"{root.rstrip('/')}/{name}": name for name in names}
        if not paths:
            return {}
        found = ask(fs, self.root, lambda: fs.cat(list(paths), on_error="return"))
        if not isinstance(found, dict):  # of one path, some file systems give the bare content
            found = dict.fromkeys(paths, found)
        return {name: _content(fs, self, path, name, found[path]) for path, name in paths.items()}

    def _locate(self, name: str) -> tuple[Any, str]:
        fs, root = locate(self.root)
        return fs, f"{root.rstrip('/')}/{name}" if name else root


def require_folder(root: str, key: str) -> Folder:
    """The folder that a setting names.

    Raises:
        CorpusError: It is not there, or fsspec does not know such URLs.
    """
    folder = Folder(root)
    try:
        there = folder.exists()
    except (ValueError, ImportError) as error:
        raise CorpusError(f"{key}={root} cannot be opened ({error}): check the URL.") from error
    if not there:
        raise CorpusError(f"{key}={root} is not there: check the path.")
    return folder


def locate(uri: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path there."""
    return open_filesystem(uri)


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
            raise place_error(uri, error) from error
        raise
    except remote_errors() as error:
        raise place_error(uri, error) from error


def ask_of(uri: str, operation: Callable[[], Result]) -> Result:
    """What reading one file returns: :func:`ask`, of its path or URL.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
        PlaceError: The place itself fails.
    """
    fs, _ = locate(uri)
    with told_of_one_file(type(fs), uri):
        return ask(fs, uri, operation)


def place_error(uri: str, error: Exception) -> PlaceError:
    """What to tell of a place that cannot be read."""
    return PlaceError(f"Cannot read {uri} ({reason(error)}): {cure(error)}.")


def read_uri(uri: str) -> bytes:
    """The bytes of a file given by its path or URL.

    Raises:
        ImageError: With reason ``missing`` when there is no such file, ``unreadable`` when it is a
            local one that may not be read.
        PlaceError: The place itself fails.
    """
    if is_local(uri):
        return read_local(Path(uri))
    fs, path = locate(uri)
    return ask_of(uri, lambda: bytes(fs.cat_file(path)))


def read_local(path: Path) -> bytes:
    """The bytes of a local file; a pipe or a device, which need not end, is none.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
    """
    with told_of_one_file(LocalFileSystem, str(path)), _open_local(path) as file:
        return file.read()


@contextmanager
def open_uri(uri: str) -> Iterator[IO[bytes]]:
    """A file given by its path or URL, to be read from its beginning to its end, or by offset.

    Of a remote one, ``READ_AHEAD`` bytes are fetched at a time; see :func:`ask_of` for its faults.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
    """
    if is_local(uri):
        with told_of_one_file(LocalFileSystem, uri), _open_local(Path(uri)) as file:
            yield file
        return
    fs, path = locate(uri)
    with (
        told_of_one_file(type(fs), uri),
        fs.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead") as file,
    ):
        yield file


def require_same(uri: str, etag: str) -> None:
    """See that a file is still the one that was listed.

    Raises:
        ImageError: With reason ``missing``: it went away, or is another one by now.
    """
    if etag_of(uri) != etag:
        raise ImageError("missing", f"{uri} has changed since it was listed: submit again")


def is_local(uri: str) -> bool:
    """Whether this is a plain path: fsspec would parse it, which takes as long as reading."""
    return "://" not in uri and "::" not in uri


def etag_of(uri: str) -> str:
    """What changes when the content of a file does, as :meth:`Folder.find` gives it.

    Raises:
        ImageError: With reason ``missing`` when there is no such file.
        PlaceError: The place itself fails.
    """
    fs, path = locate(uri)
    return _etag(ask_of(uri, lambda: fs.info(path)))


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
    except (pa.ArrowException, OSError, OverflowError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            # Of a disk, a bucket or a network: Arrow raises a bare OSError of bytes.
            if "://" not in uri or uri.startswith(("file://", "local://")):
                raise
            raise place_error(uri, error) from error
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"{uri} is no readable Parquet file ({reason}): write it anew."
        ) from error


def stem(name: str) -> str:
    """A file name without its extension; folders and inner dots are kept."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)


def suffix(name: str) -> str:
    """The extension of a file name, lower case, without its dot; empty where there is none."""
    base, _, extension = name.rpartition("/")[2].rpartition(".")
    return extension.lower() if base else ""


@contextmanager
def _open_local(path: Path) -> Iterator[IO[bytes]]:
    """A regular file; opening a pipe would wait for its writer."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ImageError("unreadable", f"{path} is no regular file: remove it")
        yield file


def _content(
    fs: Any, folder: Folder, path: str, name: str, found: bytes | Exception
) -> bytes | ImageError:
    def again() -> bytes:
        if isinstance(found, Exception) and not is_transient(found):
            raise found
        return bytes(fs.cat_file(path))

    if not isinstance(found, Exception):
        return found
    try:
        with told_of_one_file(type(fs), path):
            return ask(fs, folder.uri(name), again)
    except ImageError as error:
        return error


def _is_linked_folder(info: Mapping[str, Any]) -> bool:
    return bool(info.get("islink")) and os.path.isdir(info["name"])


def _followed(fs: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a link, what it leads to, whose time tells of a change; a broken one stays as it is."""
    try:
        followed: Mapping[str, Any] = fs.info(info["name"]) if info.get("islink") else info
    except OSError:
        return info
    return followed


def _etag(info: Mapping[str, Any]) -> str:
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    changed = next((info[key] for key in _CHANGED if info.get(key)), "")
    if isinstance(changed, datetime):  # listings of one file system have numbers, its info has not
        changed = changed.timestamp()
    return f"{info.get('size')}-{changed}"
