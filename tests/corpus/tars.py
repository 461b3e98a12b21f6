"""Tar archives for tests: from the standard library, or header by header as it never would."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

Entry = tuple[str, bytes]


def picture(colour: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("L", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def sample(key: str, tags: Any = ("cat",), **more: Any) -> list[Entry]:
    """An image and its JSON, as writers of WebDataset make them."""
    content = json.dumps({"tags": tags, **more}).encode()
    return [(f"{key}.png", picture(len(key))), (f"{key}.json", content)]


def tar_bytes(entries: Iterable[Entry], format_: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path, entries: Iterable[Entry]) -> Path:
    """An archive of regular files on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(entries))
    return path


def header(
    name: str, size: int | bytes = 0, kind: bytes = b"0", link: str = "", sparse: bool = False
) -> bytes:
    """One header block that says what it is told to, with a checksum that holds."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(512)
    block[: len(name.encode())] = name.encode()
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = field
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[157 : 157 + len(link)] = link.encode()
    block[257:265] = b"ustar\00000"
    block[482] = sparse
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Content up to the next block."""
    return data + bytes(-len(data) % 512)


END = bytes(1024)
