"""The members of a tar archive by name and byte range; nothing is ever extracted.

Archives come from strangers. Headers are read from front to back, each once, never backwards; a
size is believed only as far as the file is long; names are text and lead nowhere. What is no
regular file (links, devices, pipes, sparse files) is told of and has no bytes.

Formats: POSIX ustar and pax, GNU, and the old one before both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
"""Bytes of a header; contents are padded to a multiple of it."""
_ZEROS = bytes(BLOCK)
_MOST_ZEROS = 2**20 // BLOCK
"""Empty blocks that may follow each other: writers pad archives to 10 KiB, seldom to more."""
_LONGEST_NAME = 4096
"""Characters of a name that are kept: as an id it is far too long before that."""
_LARGEST_META = 2**20
"""Bytes of a long name or of pax records that are read."""
_FILES = (b"0", b"\0", b"7")
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class TarError(Exception):
    """An archive cannot be read further; the message has no full stop.

    Attributes:
        truncated: It ends too early; otherwise it is damaged or no tar archive.
        offset: Byte that the trouble begins at.
    """

    def __init__(self, message: str, offset: int, truncated: bool = False) -> None:
        super().__init__(message)
        self.offset = offset
        self.truncated = truncated


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: As it is written there; what is no UTF-8 has backslash escapes.
        offset: First byte of its content in the archive.
        size: Bytes of its content.
        is_file: It is a regular file, whose content is just those bytes.
        is_folder: It is a folder.
    """

    name: str
    offset: int
    size: int
    is_file: bool
    is_folder: bool

    @property
    def end(self) -> int:
        """First byte after the content."""
        return self.offset + self.size


@dataclass
class _Header:
    """A header block, and what extended headers before it say instead."""

    kind: bytes
    name: str
    size: int
    is_sparse: bool
    goes_on: bool  # an old sparse file: more blocks follow


def read_members(file: IO[bytes], length: int) -> Iterator[Member]:
    """The members of an archive, in order; contents are not read.

    Args:
        file: The archive; whoever takes members may move its position.
        length: Bytes of the archive.

    Raises:
        TarError: It is no tar archive, compressed, damaged or cut off; members before that
            were given out.
    """
    position, zeros = 0, 0
    extended: dict[str, str] = {}
    while True:
        block = _read(file, position, BLOCK)
        if zeros and not block.strip(b"\0") and len(block) < BLOCK:
            return
        if len(block) < BLOCK:
            raise TarError(f"it ends after {length} bytes without an end mark", position, True)
        if block == _ZEROS:
            zeros, position = zeros + 1, position + BLOCK
            if zeros > _MOST_ZEROS:
                raise TarError(f"nothing but zeros follow byte {position}", position)
            continue
        zeros = 0
        header = _parse(block, position, extended)
        start = position + BLOCK
        while header.goes_on:
            header.goes_on = _read(file, start, BLOCK)[504:505] not in (b"", b"\0")
            start += BLOCK
        size = 0 if header.kind in _WITHOUT_BYTES else header.size
        if start + size > length:
            told = f"its member {header.name[:200]!r} needs {start + size} bytes, it has {length}"
            raise TarError(told, position, True)
        position = start + -(-size // BLOCK) * BLOCK
        if header.kind in (b"L", b"x", b"X"):
            extended |= _extension(header.kind, file, start, size)
        elif header.kind not in (b"K", b"g"):
            extended = {}
            is_file = header.kind in _FILES and not header.is_sparse
            is_folder = header.kind == b"5" or (is_file and header.name.endswith("/"))
            yield Member(header.name, start, size, is_file and not is_folder, is_folder)


def _parse(block: bytes, position: int, extended: dict[str, str]) -> _Header:
    if position == 0:
        for magic, how in _COMPRESSED.items():
            if block.startswith(magic):
                raise TarError(f"it is compressed with {how}: images are already, unpack it", 0)
    if _number(block[148:156], position) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        what = "it is no tar archive" if position == 0 else f"it is damaged at byte {position}"
        raise TarError(f"{what}: a header's checksum is wrong", position)
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    size = extended["size"] if "size" in extended else _number(block[124:136], position)
    kind = block[156:157]
    return _Header(
        kind=kind,
        name=extended.get("path", _text(name)),
        size=int(size),
        is_sparse=kind == b"S" or "sparse" in extended,
        goes_on=kind == b"S" and block[482] != 0,
    )


def _number(field: bytes, position: int) -> int:
    """A number of a header: octal digits, or big-endian bytes after a set bit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        what = "it is no tar archive" if position == 0 else f"it is damaged at byte {position}"
        raise TarError(f"{what}: a header has {field!r} for a number", position)
    return int(digits or b"0", 8)


def _extension(kind: bytes, file: IO[bytes], start: int, size: int) -> dict[str, str]:
    """What an extended header says of the member that follows: path, size, whether it is sparse."""
    if size > _LARGEST_META:
        raise TarError(f"it has a header of {size} bytes at byte {start}", start)
    data = _read(file, start, size)
    if kind == b"L":
        return {"path": _text(data.split(b"\0", 1)[0])}
    said: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        space = data.find(b" ", at, at + 9)
        count = int(data[at:space]) if space > at and data[at:space].isdigit() else 0
        record = data[space + 1 : at + count]
        if not record.endswith(b"\n") or b"=" not in record or at + count > len(data):
            raise TarError(f"it is damaged at byte {start + at}: no pax record", start)
        key, _, value = record[:-1].partition(b"=")
        if key == b"path":
            said["path"] = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 19:
                raise TarError(f"it is damaged at byte {start + at}: a size {value!r}", start)
            said["size"] = value.decode()
        elif key.startswith(b"GNU.sparse."):
            said["sparse"] = "yes"
        at += count
    return said


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")[:_LONGEST_NAME]
