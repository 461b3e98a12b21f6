"""A checksum inside the footer of a Parquet file, over the footer.

Pages have checksums of their own; the footer, which says what columns there are and of what type,
has none. Readers of other packages see one more entry of key-value metadata.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

KEY = b"dcsp.footer"
_OPEN = b"0" * 64  # what stands in the place of the digest while it is computed
_TAIL = 8  # bytes after the footer: its length, and the mark of the format


def with_place(table: pa.Table) -> pa.Table:
    """A table whose file will have a place for the checksum."""
    metadata: dict[Any, Any] = {**(table.schema.metadata or {}), KEY: _OPEN}
    return table.replace_schema_metadata(metadata)


def without_place(table: pa.Table) -> pa.Table:
    """The table as it was before :func:`with_place`."""
    kept: dict[Any, Any] = {k: v for k, v in (table.schema.metadata or {}).items() if k != KEY}
    return table.replace_schema_metadata(kept or None)


def seal(data: bytearray) -> None:
    """Fill in the checksum of a file written from :func:`with_place`."""
    start = len(data) - _TAIL - int.from_bytes(data[-_TAIL : 4 - _TAIL], "little")
    footer = bytes(data[start:-_TAIL])
    place = start + _place(footer)
    data[place : place + len(_OPEN)] = _digest(footer)


def check_seal(source: pa.NativeFile) -> None:
    """Compare the footer of a file with its checksum; a file without one passes.

    Raises:
        ValueError: The footer is damaged, or the file is too short to have one.
    """
    size = source.size()
    if size < _TAIL:
        raise ValueError(f"it has {size} bytes")
    length = int.from_bytes(_read(source, size - _TAIL, 4), "little")
    if length > size - _TAIL:
        raise ValueError("its footer is cut off")
    footer = _read(source, size - _TAIL - length, length)
    place = _place(footer)
    if place < 0:
        return
    found = footer[place : place + len(_OPEN)]
    if found != _digest(footer[:place] + _OPEN + footer[place + len(_OPEN) :]):
        raise ValueError("its footer is not what was written")


def _read(source: pa.NativeFile, start: int, length: int) -> bytes:
    source.seek(start)
    return source.read(length)


def _place(footer: bytes) -> int:
    """Where the value of the key begins: after a byte each of its type and its length."""
    key = footer.rfind(KEY + b"\x18\x40")
    return key + len(KEY) + 2 if key >= 0 else -1


def _digest(footer: bytes) -> bytes:
    return hashlib.sha256(footer).hexdigest().encode()
