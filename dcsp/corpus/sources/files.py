"""Folders of a corpus behind one interface: local paths and every URL that fsspec knows (s3://)."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from dcsp.corpus.sources.faults import ask, ask_of, told_of_one_file
from dcsp.errors import CorpusError, ImageError
from dcsp.images.decode import IMAGE_SUFFIXES
from dcsp.store.remote import is_transient, open_filesystem

FILE, HIDDEN, LINKED_FOLDER, CLOSED_FOLDER = "", "hidden", "linked_folder", "closed_folder"
"""Kinds of what a folder lists."""
_CHANGED = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
# What file systems call the time of a change, where they give no etag.
_MOST_KINDS = 8
READ_AHEAD = 8 * 2**20
"""Bytes of a remote file that are fetched at a time when it is read from front to back."""


class Entry(NamedTuple):
    """What a folder lists.

    Attributes:
        etag: Changes when the content does; empty of what is no file to be read.
        kind: ``FILE``; ``HIDDEN``: a file whose name, or that of a folder it is in, begins with a
            dot; ``LINKED_FOLDER``: a link to a folder, which is not followed; ``CLOSED_FOLDER``:
            a folder that this account may not read.
    """

    etag: str
    kind: str = FILE


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
            file: entry.etag for file, entry in self.entries(name).items() if entry.kind == FILE
        }

    def entries(self, name: str = "") -> dict[str, Entry]:
        """All that lies below a folder: its name under that folder → what it is, sorted by name.

        Raises:
            CorpusError: The folder itself may not be read.
        """
        fs, path = self._locate(name)
        start = len(path.rstrip("/")) + 1
        here = is_local(self.root)
        listed = ask(fs, self.uri(name), lambda: fs.find(path, detail=True, withdirs=here))
        closed = _closed_folders(listed) if here else set()
        if path.rstrip("/") in closed:
            raise CorpusError(f"{self.uri(name)} may not be read: change its permissions.")
        found = {
            full[start:]: info
            for full, info in listed.items()
            if info and info["type"] != "directory"
        }
        entries = {file: _entry(fs, file, info) for file, info in found.items() if file.strip("/")}
        for name in (full[start:] for full in closed):
            entries[name] = Entry("", HIDDEN if _is_hidden(name) else CLOSED_FOLDER)
        return dict(sorted(entries.items()))

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
        fs, root = open_filesystem(self.root)
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


def read_uri(uri: str) -> bytes:
    """The bytes of a file given by its path or URL.

    Raises:
        ImageError: With reason ``missing`` when there is no such file, ``unreadable`` when it is a
            local one that may not be read.
        PlaceError: The place itself fails.
    """
    if is_local(uri):
        return read_local(Path(uri))
    fs, path = open_filesystem(uri)
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
    fs, path = open_filesystem(uri)
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


def absolute(path: str) -> str:
    """A local path made absolute, since workers may run elsewhere; a URL as it is."""
    return str(Path(path).absolute()) if is_local(path) else path


def etag_of(uri: str) -> str:
    """What changes when the content of a file does, as :meth:`Folder.find` gives it.

    Raises:
        ImageError: With reason ``missing`` when there is no such file.
        PlaceError: The place itself fails.
    """
    fs, path = open_filesystem(uri)
    return _etag(ask_of(uri, lambda: fs.info(path)))


def stem(name: str) -> str:
    """A file name without its extension; folders and inner dots are kept."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)


def suffix(name: str) -> str:
    """The extension of a file name, lower case, without its dot; empty where there is none."""
    base, _, extension = name.rpartition("/")[2].rpartition(".")
    return extension.lower() if base else ""


def is_image(name: str) -> bool:
    """Whether a file is called as an image that can be decoded here."""
    return suffix(name) in IMAGE_SUFFIXES


def kind_of(name: str, entry: Entry) -> str:
    """What a file that is part of no image counts as: what there is of it is told by this."""
    if entry.kind != FILE:
        return entry.kind.replace("_", " ")
    return suffix_kind(suffix(name))


def suffix_kind(text: str) -> str:
    """What files with a suffix count as.

    >>> [suffix_kind(text) for text in ("heic", "", "2024 holidays")]
    ['.heic', 'without a suffix', 'without a suffix']
    """
    return f".{text}" if re.fullmatch("[a-z0-9_~*.-]{1,16}", text) else "without a suffix"


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


def _closed_folders(listed: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Local folders that this account may not read: fsspec lists nothing in them and is silent."""
    above = {full.rpartition("/")[0] for full in listed}
    empty = (f for f, info in listed.items() if info["type"] == "directory" and f not in above)
    return {full for full in empty if not os.access(full, os.R_OK | os.X_OK)}


def _entry(fs: Any, file: str, info: Mapping[str, Any]) -> Entry:
    if _is_hidden(file):
        return Entry("", HIDDEN)
    if info.get("islink") and os.path.isdir(info["name"]):
        return Entry("", LINKED_FOLDER)
    return Entry(_etag(_followed(fs, info)))


def _is_hidden(name: str) -> bool:
    return any(step.startswith(".") for step in name.split("/"))


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


def told_kinds(kinds: Counter[str]) -> str:
    """How many there are of each kind, the commonest first: ``3 .heic, 1 hidden``."""
    common = kinds.most_common(_MOST_KINDS)
    rest = kinds.total() - sum(number for _, number in common)
    listed = [f"{number} {kind}" for kind, number in common]
    return ", ".join([*listed, *([f"{rest} others"] if rest else [])])
