"""The store: every table of every run under one local path or ``s3://bucket/prefix``.

Files appear whole or not at all: a local file is written under a temporary name and renamed, an
object is one put. Nothing here knows what a table means, and nothing is ever overwritten in part.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from dcsp.errors import StoreError

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
        try:
            self._fs, root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"Cannot open the store {self.url}: {error}; use a local path or s3://bucket/prefix."
            ) from error
        self._root = root.rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return (Store, (self.url,))

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def path(self, name: str) -> str:
        """Full path or URL of a name below the store, for messages and for other readers.

        Raises:
            StoreError: The name leaves the store.
        """
        self._resolve(name)
        return f"{self.url.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file of this name is there."""
        return bool(self._fs.isfile(self._resolve(name)))

    def list(self, directory: str) -> list[str]:
        """Sorted names in a directory, without temporary files; empty when it does not exist."""
        return sorted(self.sizes(directory))

    def sizes(self, directory: str) -> dict[str, int]:
        """Name → bytes of the entries of a directory, from one listing (folders have 0)."""
        try:
            entries = self._fs.ls(self._resolve(directory), detail=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._fault("list", directory, error) from error
        named = ((PurePosixPath(entry["name"]).name, entry) for entry in entries)
        return {
            name: int(entry.get("size") or 0)
            for name, entry in named
            if not name.startswith(TEMPORARY_PREFIX) and name != PurePosixPath(directory).name
        }

    def parts(self, directory: str) -> set[str]:
        """Names of the finished parts of a table, from one listing."""
        suffix = ".parquet"
        return {name.removesuffix(suffix) for name in self.sizes(directory) if name.endswith(suffix)}

    def read_bytes(self, name: str) -> bytes:
        """Whole content of a file.

        Raises:
            StoreError: The file is not there or cannot be read.
        """
        try:
            return bytes(self._fs.cat_file(self._resolve(name)))
        except FileNotFoundError as error:
            raise StoreError(f"The store {self.url} has no {name}.") from error
        except OSError as error:
            raise self._fault("read", name, error) from error

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole: a reader sees the old content or the new, never a part of it.

        Raises:
            StoreError: The store cannot be written.
        """
        target = self._resolve(name)
        try:
            if self.is_local:
                _write_local(Path(target), data)
            else:
                self._fs.pipe_file(target, data)
        except OSError as error:
            raise self._fault("write", name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file or a directory with all it holds; nothing happens when it is not there."""
        target = self._resolve(name)
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)

    def read_json(self, name: str) -> Any:
        """Content of a JSON file.

        Raises:
            StoreError: The file is not there or is no JSON.
        """
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise StoreError(f"{self.path(name)} is not valid JSON ({error}).") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON, readable by people, whole."""
        self.write_bytes(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns, in one thread.

        Raises:
            StoreError: The file is not there, is torn, or lacks a column.
        """
        try:
            if self.is_local:
                with pa.memory_map(self._resolve(name)) as source:
                    table = pq.ParquetFile(source).read(columns=_listed(columns), use_threads=False)
            else:
                source = pa.BufferReader(self.read_bytes(name))
                table = pq.ParquetFile(source).read(columns=_listed(columns), use_threads=False)
        except FileNotFoundError as error:
            raise StoreError(f"The store {self.url} has no {name}.") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreError(
                f"{self.path(name)} is torn or no Parquet file ({error}): "
                "remove it and submit the job again."
            ) from error
        missing = set(columns or ()) - set(table.column_names)
        if missing:
            raise StoreError(f"{self.path(name)} has no column {', '.join(sorted(missing))}.")
        return table

    def write_table(self, name: str, table: pa.Table) -> int:
        """Write a Parquet file whole and return its bytes; equal tables give equal bytes."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_statistics=False)
        data = sink.getvalue().to_pybytes()
        self.write_bytes(name, data)
        return len(data)

    def _resolve(self, name: str) -> str:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise StoreError(f"{name!r} is no name inside a store.")
        return f"{self._root}/{name}" if name else self._root

    def _fault(self, action: str, name: str, error: OSError) -> StoreError:
        return StoreError(
            f"Cannot {action} {name or 'the root'} in the store {self.url} ({error}): "
            "check the path, the permissions and the free space."
        )


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)


def _write_local(target: Path, data: bytes) -> None:
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
