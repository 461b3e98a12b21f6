"""Files of a store with their ages, removing many of them, and what killed writers leave.

A writer that is killed leaves a temporary file in a folder, an upload that did not end in a bucket.
Removing files leaves empty folders, which no bucket has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dcsp.errors import StoreError
from dcsp.store.ahead import read_ahead
from dcsp.store.conditional import is_s3, remove_file
from dcsp.store.store import TEMPORARY_PREFIX, Store
from dcsp.text import quantity


@dataclass(frozen=True)
class Seen:
    """A file as a listing tells of it.

    Attributes:
        bytes: Its size.
        written: When it was written, in seconds since 1970; infinity where the store does not say.
    """

    bytes: int
    written: float


@dataclass(frozen=True)
class Upload:
    """A file that is being sent to a bucket in several parts, or was when its writer died.

    Attributes:
        name: Of the file in the store.
        key: Of the file in its bucket.
        id: Of the upload.
        begun: Seconds since 1970.
    """

    name: str
    key: str
    id: str
    begun: float


def is_temporary(name: str) -> bool:
    """Whether a file is being written, or was when its writer died."""
    return PurePosixPath(name).name.startswith(TEMPORARY_PREFIX)


def look(store: Store) -> dict[str, Seen]:
    """Name → size and age of every file anywhere in the store, sorted, temporary ones too.

    Raises:
        StoreError: The store cannot be listed.
    """
    return {
        name: Seen(int(entry["size"] or 0), _written(entry))
        for name, entry in store.files().items()
    }


def remove_files(store: Store, names: Sequence[str]) -> None:
    """Remove many files, several at once, whatever becomes of the others.

    Raises:
        StoreError: Some are still there; the message has the first one's reason.
    """

    def remove(name: str) -> StoreError | None:
        try:
            remove_file(store, name)
        except StoreError as error:
            return error
        return None

    with read_ahead(remove, names) as ended:
        failed = [error for error in ended if error is not None]
    if failed:
        raise StoreError(
            f"{quantity(len(failed), 'file')} of {len(names)} could not be removed; the same "
            f"command goes on from there. The first: {failed[0]}"
        )


def empty_folders(store: Store) -> list[str]:
    """Folders in which no file is, the deepest first; a bucket has none."""
    if not store.is_local:
        return []
    root = store.location("")
    found: dict[str, None] = {}
    for folder, below, files in os.walk(root, topdown=False):
        if folder != root and not files and all(os.path.join(folder, b) in found for b in below):
            found[folder] = None
    return [str(Path(folder).relative_to(root)) for folder in found]


def remove_empty_folders(store: Store) -> None:
    """Remove the folders in which no file is; one that a writer fills meanwhile stays."""
    for name in empty_folders(store):
        with suppress(OSError):
            os.rmdir(store.location(name))


def uploads(store: Store) -> list[Upload]:
    """Uploads below the store that have not ended; only a bucket of S3 has any.

    Raises:
        StoreError: They cannot be listed.
    """
    if not is_s3(store):
        return []
    bucket, _, prefix = store.location("").partition("/")
    start = f"{prefix}/" if prefix else ""
    found = store.attempt("list the uploads of", "", lambda: list(_uploads(store, bucket, start)))
    return [
        Upload(told["Key"].removeprefix(start), told["Key"], told["UploadId"], _time(told))
        for told in found
    ]


def abort_upload(store: Store, upload: Upload) -> None:
    """Give up an upload, and free what it takes.

    Raises:
        StoreError: The bucket does not let it go.
    """
    bucket = store.location("").partition("/")[0]
    place = {"Bucket": bucket, "Key": upload.key, "UploadId": upload.id}

    def abort() -> None:
        with suppress(FileNotFoundError):
            store.filesystem.call_s3("abort_multipart_upload", **place)

    store.attempt("end the upload of", upload.name, abort)


def end_uploads(store: Store) -> str:
    """Give up all uploads that did not end; why they were left alone, where the account may not."""
    try:
        for upload in uploads(store):
            abort_upload(store, upload)
    except StoreError as error:
        return str(error)
    return ""


def _uploads(store: Store, bucket: str, start: str) -> Iterator[dict[str, Any]]:
    markers: dict[str, str] = {}
    while True:
        page = store.filesystem.call_s3(
            "list_multipart_uploads", Bucket=bucket, Prefix=start, **markers
        )
        yield from page.get("Uploads", ())
        if not page.get("IsTruncated"):
            return
        markers = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def _time(told: dict[str, Any]) -> float:
    begun: datetime = told["Initiated"]
    return begun.timestamp()


def _written(entry: dict[str, Any]) -> float:
    """When a file was written, as local disks and object stores tell it."""
    told = entry.get("mtime") or entry.get("LastModified") or entry.get("created")
    if isinstance(told, datetime):
        return told.timestamp()
    return float(told) if isinstance(told, int | float) else float("inf")
