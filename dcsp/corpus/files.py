"""Folders of a corpus behind one interface: local paths and every URL that fsspec knows (s3://)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dcsp.errors import CorpusError, ImageError

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"),
    *("ppm", "pgm", "pbm", "jp2", "avif", "mpo"),
)
"""Extensions of what :func:`dcsp.images.decode_rgb` reads, lower case, in order of preference."""


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
        return bool(fs.exists(path))

    def find(self, name: str = "") -> dict[str, str]:
        """Every file below a folder: its name under that folder → an etag, sorted by name.

        Hidden files and folders are left out; a folder that is not there holds nothing.
        """
        fs, path = self._locate(name)
        start = len(path.rstrip("/")) + 1
        found = {
            full[start:]: _etag(info) for full, info in fs.find(path, detail=True).items() if info
        }
        return {
            file: found[file]
            for file in sorted(found)
            if file and not any(step.startswith(".") for step in file.split("/"))
        }

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | ImageError]:
        """The bytes of several files, or why there are none; fetched together from remote places.

        Raises:
            OSError: The place itself fails.
        """
        fs, root = self._locate("")
        paths = {f"{root.rstrip('/')}/{name}": name for name in names}
        found = fs.cat(list(paths), on_error="return") if paths else {}
        if not isinstance(found, dict):  # of one path, some file systems give the bare content
            found = dict.fromkeys(paths, found)
        return {name: _content(fs, path, found[path]) for path, name in paths.items()}

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
    fs, path = fsspec.url_to_fs(uri, use_listings_cache=False)  # type: ignore[no-untyped-call]
    return fs, str(path)


def read_uri(uri: str) -> bytes:
    """The bytes of a file given by its path or URL.

    Raises:
        ImageError: With reason ``missing`` when there is no such file, ``unreadable`` when it is a
            local one that may not be read.
    """
    fs, path = locate(uri)
    with told_of_one_file(fs, uri):
        return bytes(fs.cat_file(path))


@contextmanager
def told_of_one_file(fs: Any, uri: str) -> Iterator[None]:
    """Turn what is wrong with one file into an error about it; faults of the place stay theirs.

    Raises:
        ImageError: With reason ``missing`` or ``unreadable``.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing", f"there is no file {uri}") from error
    except PermissionError as error:
        if not isinstance(fs, LocalFileSystem):  # credentials, which every file needs
            raise
        message = f"this account may not read {uri}: change its permissions"
        raise ImageError("unreadable", message) from error


def stem(name: str) -> str:
    """A file name without its extension; folders and inner dots are kept."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)


def suffix(name: str) -> str:
    """The extension of a file name, lower case, without its dot; empty where there is none."""
    base, _, extension = name.rpartition("/")[2].rpartition(".")
    return extension.lower() if base else ""


def _content(fs: Any, path: str, found: bytes | Exception) -> bytes | ImageError:
    try:
        with told_of_one_file(fs, path):
            if isinstance(found, Exception):
                raise found
    except ImageError as error:
        return error
    return found


def _etag(info: Mapping[str, Any]) -> str:
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    return f"{info.get('size')}-{info.get('mtime') or info.get('LastModified') or ''}"
