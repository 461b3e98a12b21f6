"""Checksums inside files, over what they say and the name that they lie under in the store.

A file that was damaged is told from a good one, and so is a good one that lies in the place of
another. Of a Parquet file the footer has one, as an entry of key-value metadata: its pages have
checksums of their own. A JSON object has one more member. Files of earlier versions have none, or
one that leaves the name out, and pass.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa

KEY = b"dcsp.footer"
_OPEN = b"0" * 64  # what stands in the place of the digest while it is computed
CHECKSUM = "checksum"
"""Member of a JSON object that has its checksum."""
_TAIL = 8  # bytes after the footer: its length, and the mark of the format


def with_place(table: pa.Table) -> pa.Table:
    """A table whose file will have a place for the checksum."""
    metadata: dict[Any, Any] = {**(table.schema.metadata or {}), KEY: _OPEN}
    return table.replace_schema_metadata(metadata)


def without_place(table: pa.Table) -> pa.Table:
    """The table as it was before :func:`with_place`."""
    kept: dict[Any, Any] = {k: v for k, v in (table.schema.metadata or {}).items() if k != KEY}
    return table.replace_schema_metadata(kept or None)


def seal(data: bytearray, name: str) -> None:
    """Fill in the checksum of a file of this name, written from :func:`with_place`."""
    start = len(data) - _TAIL - int.from_bytes(data[-_TAIL : 4 - _TAIL], "little")
    footer = bytes(data[start:-_TAIL])
    place = start + _place(footer)
    data[place : place + len(_OPEN)] = _digest(footer, name)


def check_seal(source: pa.NativeFile, name: str) -> None:
    """Compare the footer of a file of this name with its checksum; a file without one passes.

    Raises:
        ValueError: The footer is damaged or another file's, or the file is too short to have one.
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
    unsealed = footer[:place] + _OPEN + footer[place + len(_OPEN) :]
    if found not in (_digest(unsealed, name), _digest(unsealed, "")):
        raise ValueError("its footer is not what was written under this name")


def sealed_json(tree: Any, name: str) -> Any:
    """A JSON object with the checksum of a file of this name; any other value as it is."""
    if not isinstance(tree, dict):
        return tree
    read_back = json.loads(json.dumps(tree))  # keys are text then, and sorted as such
    return {**without_checksum(tree), CHECKSUM: _json_digest(read_back, name)}


def has_checksum(tree: Any) -> bool:
    """Whether a JSON value was sealed: files of earlier versions were not."""
    return isinstance(tree, dict) and CHECKSUM in tree


def check_json(tree: Any, name: str) -> None:
    """Compare a JSON value with its checksum; one without passes.

    Raises:
        ValueError: It is not what was written under this name.
    """
    if has_checksum(tree) and tree[CHECKSUM] != _json_digest(tree, name):
        raise ValueError("not what was written under this name")


def without_checksum(tree: Any) -> Any:
    """The value as it was before :func:`sealed_json`."""
    if not has_checksum(tree):
        return tree
    return {key: value for key, value in tree.items() if key != CHECKSUM}


def _read(source: pa.NativeFile, start: int, length: int) -> bytes:
    source.seek(start)
    return source.read(length)


def _place(footer: bytes) -> int:
    """Where the value of the key begins: after a byte each of its type and its length."""
    key = footer.rfind(KEY + b"\x18\x40")
    return key + len(KEY) + 2 if key >= 0 else -1


def _digest(footer: bytes, name: str) -> bytes:
    return hashlib.sha256(name.encode() + footer).hexdigest().encode()


def _json_digest(tree: dict[str, Any], name: str) -> str:
    text = json.dumps([name, without_checksum(tree)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
