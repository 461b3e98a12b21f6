"""The store: every table of every run under one local path or ``s3://bucket/prefix``.

Files appear whole or not at all: a local file is written under a temporary name and renamed, an
object is one put. Nothing here knows what a table means, and nothing is ever overwritten in part.
Faults of an object store that pass by themselves are waited for (:mod:`dcsp.store.remote`).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from dcsp.errors import StoreError
from dcsp.store.remote import (
    cure,
    expect_answers,
    is_missing_bucket,
    open_filesystem,
    reason,
    remote_errors,
    retried,
)
from dcsp.store.seal import (
    check_json,
    check_seal,
    seal,
    sealed_json,
    with_place,
    without_checksum,
    without_place,
)
from dcsp.text import holds_credentials, shown

Result = TypeVar("Result")

TEMPORARY_PREFIX = ".tmp-"
"""Names of files that are being written, or were when their writer died; never read as tables."""


class Store:
    """Reads and atomic writes below one root; cheap to build and to pickle.

    Args:
        url: Local path, or any fsspec URL such as ``s3://bucket/prefix``.

    Raises:
        StoreError: The URL's protocol is unknown.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        if holds_credentials(self.url):
            raise StoreError(
                f"The address of the store {shown(url)} holds credentials, which messages and "
                "files would repeat: leave them to the environment (AWS_ACCESS_KEY_ID, …)."
            )
        try:
            self.filesystem, root = open_filesystem(self.url)
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"Cannot open the store {self.url}: {error}; use a local path or s3://bucket/prefix."
            ) from error
        self._root: str = root.rstrip("/")
        self.is_local = isinstance(self.filesystem, LocalFileSystem)
        if self.is_local and self.url.startswith(("~", "file:", "local:")):
            self.url = self._root  # a path that every reader takes

    def __reduce__(self) -> tuple[Callable[[str], Store], tuple[str]]:
        # A worker may run in another directory than the process that opened a relative path.
        return (_reopened, (self._root if self.is_local else self.url,))

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def path(self, name: str) -> str:
        """Full path or URL of a name below the store, for messages and for other readers.

        Raises:
            StoreError: The name leaves the store.
        """
        self._resolve(name)
        return f"{self.url.rstrip('/')}/{name}"

    def location(self, name: str) -> str:
        """Path of a name within :meth:`arrow_filesystem`, without a protocol.

        Raises:
            StoreError: The name leaves the store.
        """
        return self._resolve(name)

    def arrow_filesystem(self) -> pafs.FileSystem:
        """This store's file system, for libraries that write on their own."""
        handler = pafs.FSSpecHandler(self.filesystem)  # type: ignore[abstract]  # says its stub
        return pafs.PyFileSystem(handler)

    def exists(self, name: str) -> bool:
        """Whether a file of this name is there.

        Raises:
            StoreError: The store cannot be asked.
        """
        target = self._resolve(name)

        def look_up() -> bool:
            # Not isfile(): it takes a store that cannot be reached for one without the file.
            try:
                return bool(self.filesystem.info(target)["type"] == "file")
            except FileNotFoundError as error:
                return _absent(error, False)
            except NotADirectoryError:
                if self.filesystem.isfile(self._root):
                    raise  # this is no store
                return False  # a file is where the name has a folder

        return self.attempt("look up", name, look_up)

    def list(self, directory: str) -> list[str]:
        """Sorted names in a directory, without temporary files; empty when it does not exist.

        Raises:
            StoreError: The directory cannot be listed.
        """
        return sorted(self._names(directory))

    def sizes(self, directory: str) -> dict[str, int]:
        """Name → bytes of the entries of a directory, from one listing (folders have 0).

        Raises:
            StoreError: The directory cannot be listed.
        """
        target = self._resolve(directory).rstrip("/")

        def ls() -> list[dict[str, Any]]:
            try:
                return list(self.filesystem.ls(target, detail=True))
            except FileNotFoundError as error:
                return _absent(error, [])

        entries = self.attempt("list", directory, ls)
        # An object store may list the directory's own marker among its entries.
        paths = ((entry["name"].rstrip("/"), entry) for entry in entries)
        named = ((path.rpartition("/")[2], entry) for path, entry in paths if path != target)
        return {
            name: 0 if entry["type"] == "directory" else int(entry["size"] or 0)
            for name, entry in named
            if not name.startswith(TEMPORARY_PREFIX)
        }

    def _names(self, directory: str) -> Iterable[str]:
        """As the keys of :meth:`sizes`; of local files nothing but the names is looked up."""
        if not self.is_local:
            return self.sizes(directory)
        target = self._resolve(directory)

        def listdir() -> list[str]:
            try:
                return os.listdir(target)
            except FileNotFoundError:
                return []
            except NotADirectoryError:
                if os.path.isfile(target) and target != self._root:  # a file holds no names
                    return []
                raise

        found = self.attempt("list", directory, listdir)
        return (name for name in found if not name.startswith(TEMPORARY_PREFIX))

    def parts(self, directory: str) -> set[str]:
        """Names of the finished parts of a table, from one listing.

        Raises:
            StoreError: The directory cannot be listed.
        """
        suffix = ".parquet"
        return {
            name.removesuffix(suffix) for name in self._names(directory) if name.endswith(suffix)
        }

    def read_bytes(self, name: str) -> bytes:
        """Whole content of a file.

        Raises:
            StoreError: The file is not there or cannot be read.
        """
        target = self._resolve(name)
        return self.attempt("read", name, lambda: bytes(self.filesystem.cat_file(target)))

    def write_bytes(self, name: str, data: bytes | bytearray) -> None:
        """Write a file whole: a reader sees the old content or the new, never a part of it.

        Raises:
            StoreError: The store cannot be written.
        """
        target = self._resolve(name)
        if self.is_local:
            self.attempt("write", name, lambda: write_local(Path(target), data))
        else:
            self.attempt("write", name, lambda: self.filesystem.pipe_file(target, bytes(data)))

    def remove(self, name: str) -> None:
        """Remove a file or a directory with all it holds; nothing happens when it is not there.

        Raises:
            StoreError: It cannot be removed.
        """
        target = self._resolve(name)

        def rm() -> None:
            try:
                self.filesystem.rm(target, recursive=True)
                if not self.is_local:  # s3fs keeps silent on files that a bucket did not remove
                    for path in self.filesystem.find(target):
                        self.filesystem.rm_file(path)
            except FileNotFoundError as error:
                _absent(error, None)

        self.attempt("remove", name, rm)

    def files(self) -> dict[str, dict[str, Any]]:
        """Name → what its file system tells of every file anywhere in the store, sorted.

        Files that are being written are among them.

        Raises:
            StoreError: The store cannot be listed.
        """
        root = self._root
        found = self.attempt("list", "", lambda: self.filesystem.find(root, detail=True))
        return {path.removeprefix(root).lstrip("/"): found[path] for path in sorted(found)}

    def read_json(self, name: str) -> Any:
        """Content of a JSON file.

        Raises:
            StoreError: The file is not there, is no JSON, or is not what was written.
        """
        return without_checksum(self.read_sealed_json(name))

    def read_sealed_json(self, name: str) -> Any:
        """As :meth:`read_json`, with the checksum that the file has, if it has one.

        Raises:
            StoreError: As for :meth:`read_json`.
        """
        try:
            tree = json.loads(self.read_bytes(name))
        except ValueError as error:
            raise StoreError(
                f"{self.path(name)} is not valid JSON ({error}): remove it and submit again."
            ) from error
        try:
            check_json(tree, name)
        except ValueError as error:
            raise StoreError(
                f"{self.path(name)} is {error}: it was damaged, changed by hand or taken from "
                "elsewhere; remove it and submit the job again."
            ) from error
        return tree

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON, readable by people, whole; an object gets a checksum as its last member.

        Raises:
            StoreError: The store cannot be written.
            ValueError: The value holds a NaN or an infinity, which JSON has not.
        """
        sealed = sealed_json(value, name)
        text = json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns, in one thread.

        Raises:
            StoreError: The file is not there, is torn, or lacks a column.
        """
        wanted = None if columns is None else list(columns)
        source = self._mapped(name) if self.is_local else pa.BufferReader(self.read_bytes(name))
        try:
            table = _parse(source, name, wanted)
            missing = set(columns or ()) - set(table.column_names)
        except (pa.ArrowException, OSError, ValueError) as error:  # names need not be text any more
            raise StoreError(
                f"{self.path(name)} is torn or no Parquet file ({reason(error)}): "
                "remove it and submit the job again."
            ) from error
        if missing:
            raise StoreError(
                f"{self.path(name)} has no column {', '.join(sorted(missing))}: it is damaged or "
                "of another version; remove it and submit the job again."
            )
        return table

    def write_table(self, name: str, table: pa.Table) -> int:
        """Write a Parquet file whole and return its bytes; equal tables give equal bytes of a name.

        Every page and the footer have checksums: a file damaged later is told from a good one.

        Raises:
            StoreError: The store cannot be written.
        """
        sink = pa.BufferOutputStream()
        # In one piece: where a table is cut into chunks must not show in its bytes.
        pq.write_table(
            with_place(table.combine_chunks()),
            sink,
            compression="zstd",
            write_statistics=False,
            write_page_checksum=True,
        )
        data = bytearray(sink.getvalue())
        seal(data, name)
        self.write_bytes(name, data)
        return len(data)

    def _resolve(self, name: str) -> str:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
            raise StoreError(f"{name!r} is no name inside a store.")
        return f"{self._root}/{name}" if name else self._root

    def _mapped(self, name: str) -> pa.NativeFile:
        target = self._resolve(name)
        return self.attempt("read", name, lambda: pa.memory_map(target))

    def attempt(self, action: str, name: str, operation: Callable[[], Result]) -> Result:
        """Do something with a file of the store, again where a passing fault spoils it.

        Args:
            action: What it is, as an infinitive, for the message.
            name: Of the file.
            operation: May run several times.

        Raises:
            StoreError: In place of whatever the file system raises.
        """
        try:
            return operation() if self.is_local else retried(operation)
        except FileNotFoundError as error:
            if action == "read" and not is_missing_bucket(error):
                raise StoreError(f"The store {self.url} has no {name}.") from error
            raise self._fault(action, name, error) from error
        except self._expected_errors() as error:
            raise self._fault(action, name, error) from error

    def _expected_errors(self) -> tuple[type[Exception], ...]:
        return (OSError,) if self.is_local else remote_errors()

    def _fault(self, action: str, name: str, error: Exception) -> StoreError:
        what_to_do = (
            "check the path, the permissions and the free space" if self.is_local else cure(error)
        )
        return StoreError(
            f"Cannot {action} {name or 'the root'} in the store {self.url} ({reason(error)}): "
            f"{what_to_do}."
        )


def _reopened(url: str) -> Store:
    """The store that another process has worked with."""
    expect_answers()
    return Store(url)


def _absent(error: FileNotFoundError, answer: Result) -> Result:
    """The answer for a file that is not there; a bucket that is not there is a fault."""
    if is_missing_bucket(error):
        raise error
    return answer


def _parse(source: pa.NativeFile, name: str, columns: list[str] | None) -> pa.Table:
    with source:
        check_seal(source, name)
        file = pq.ParquetFile(source, page_checksum_verification=True)
        return without_place(file.read(columns=columns, use_threads=False))


def write_local(target: Path, data: bytes | bytearray) -> None:
    """Write a local file under a temporary name, and rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
