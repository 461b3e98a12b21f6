"""A folder with one of every fault that a corpus of strangers has, and what each must become."""

from __future__ import annotations

import os
import re
import socket
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import select_rows
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import Source
from dcsp.corpus.sources.open import open_source
from dcsp.labels import TagMapper
from tests.images.pictures import encode

OK = "ok"
CLASSES = ("cat", "dog")
MAPPER = TagMapper(CLASSES, {})
PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

Outcome = set[str]
"""Reasons of rejected rows about one file, and ``ok`` where its image is in the corpus."""


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of black pixels that says how large it is and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(16))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.fromarray(PHOTO), "JPEG", exif=exif)


def _animated() -> bytes:
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1].copy())]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


_JPEG = encode(Image.fromarray(PHOTO), "JPEG")
_PNG = encode(Image.fromarray(PHOTO), "PNG")
FILES: dict[str, tuple[bytes, Outcome]] = {
    "good.jpg": (_JPEG, {OK}),
    "truncated.jpg": (_JPEG[: len(_JPEG) // 2], {"truncated"}),
    "half.png": (_PNG[: len(_PNG) // 2], {"truncated"}),
    "empty.jpg": (b"", {"empty"}),
    "no_pixels.png": (png_of_size(0, 0), {"unreadable"}),
    "one_pixel.png": (encode(Image.new("RGB", (1, 1)), "PNG"), {OK}),
    "ribbon.png": (encode(Image.new("RGB", (20_000, 1)), "PNG"), {OK}),
    "bomb.png": (png_of_size(30_000, 30_000), {"oversized"}),
    "cmyk.jpg": (encode(Image.new("CMYK", (64, 48)), "JPEG"), {OK}),
    "sixteen_bits.png": (encode(Image.fromarray(PHOTO[..., 0].astype(np.uint16)), "PNG"), {OK}),
    "palette.png": (encode(Image.fromarray(PHOTO).convert("P"), "PNG"), {OK}),
    "alpha.png": (encode(Image.fromarray(PHOTO).convert("RGBA"), "PNG"), {OK}),
    "animated.gif": (_animated(), {OK}),
    "turned.jpg": (_turned(), {OK}),
    "wrong_extension.png": (_JPEG, {OK}),
    "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", {"unreadable"}),
    "text.jpg": ("kein Bild, 没有图像\n".encode(), {"unreadable"}),
    "vector.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", {"unreadable"}),
    "twice.jpg": (_JPEG, {OK}),
    "twice.png": (_PNG, {"duplicate_id"}),
    "  .jpg": (_JPEG, {"invalid_id"}),
    "line\nbreak.jpg": (_JPEG, {"invalid_id"}),
    "back\\slash.jpg": (_JPEG, {"invalid_id"}),
    "unknown_tag.jpg": (_JPEG, {"unknown_tag"}),
    "half_known.jpg": (_JPEG, {OK, "unknown_tag"}),
    "no_tags.jpg": (_JPEG, {OK}),
    "not_a_number.jpg": (_JPEG, {"unknown_tag"}),
    "huge_number.jpg": (_JPEG, {"unknown_tag"}),
    "two_splits.jpg": (_JPEG, {"unreadable_tags"}),
    "other_split.jpg": (_JPEG, {"unknown_split"}),
}
"""Name → content, and what has to become of it."""
TAGS: list[tuple[str, str, str]] = [
    ("unknown_tag.jpg", "unicorn", ""),
    ("half_known.jpg", "cat;unicorn", ""),
    ("no_tags.jpg", " ; ,", ""),
    ("not_a_number.jpg", "nan", ""),
    ("huge_number.jpg", "1e999", ""),
    ("two_splits.jpg", "cat", "train"),
    ("two_splits.jpg", "cat", "val"),
    ("other_split.jpg", "cat", "holdout"),
    ("nowhere.jpg", "cat", ""),
    ("../outside.jpg", "cat", ""),
    ("/etc/passwd", "cat", ""),
    ("", "cat", ""),
]
"""Rows of the tag table: image, tags, split; beside one ``cat`` for every other plain name."""
NAMED: dict[str, Outcome] = {
    "nowhere.jpg": {"missing"},
    "../outside.jpg": {"invalid_id"},
    "/etc/passwd": {"invalid_id"},
    "": {"invalid_id"},
}
"""What the table names although there is no such file in the folder."""


def _links(root: Path) -> dict[str, Outcome]:
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "private.jpg").write_bytes(_JPEG)
    (root / "link.jpg").symlink_to(outside / "private.jpg")
    (root / "broken_link.jpg").symlink_to(outside / "gone.jpg")
    (root / "itself.jpg").symlink_to(root / "itself.jpg")
    (root / "folder_link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    return {
        "link.jpg": {OK},
        "broken_link.jpg": {"missing"},
        "itself.jpg": {"missing"},
        "folder_link": {"linked_folder"},
        "loop": {"linked_folder"},
    }


def _endless(root: Path) -> dict[str, Outcome]:
    os.mkfifo(root / "pipe.jpg")
    (root / "zeros.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as plug:
        here = os.getcwd()
        os.chdir(root)  # the name of a socket has 108 bytes at most
        try:
            plug.bind("socket.jpg")
        finally:
            os.chdir(here)
    return {name: {"unreadable"} for name in ("pipe.jpg", "zeros.jpg", "socket.jpg")}


def _bytes_name(root: Path) -> dict[str, Outcome]:
    name = os.fsdecode(b"caf\xe9.jpg")  # Latin-1, no UTF-8
    (root / name).write_bytes(_JPEG)
    return {name.encode(errors="backslashreplace").decode(): {"invalid_id"}}


def _folder_called_image(root: Path) -> dict[str, Outcome]:
    (root / "folder.jpg").mkdir()
    (root / "folder.jpg" / "inside.jpg").write_bytes(_JPEG)
    return {"folder.jpg/inside.jpg": {OK}}


OTHERS: tuple[Callable[[Path], dict[str, Outcome]], ...] = (
    _links,
    _endless,
    _bytes_name,
    _folder_called_image,
)


def plant(root: Path) -> dict[str, Outcome]:
    """Fill an empty folder, with a ``tags.csv``; what must become of each file and table row.

    What lies outside of the folder is written beside it.
    """
    expected: dict[str, Outcome] = dict(NAMED)
    (root.parent / "outside.jpg").write_bytes(_JPEG)
    for name, (data, outcome) in FILES.items():
        (root / name).write_bytes(data)
        expected[name] = outcome
    for make in OTHERS:
        expected |= make(root)
    told = {name for name, _, _ in TAGS}
    plain = [name for name in FILES if name not in told and re.fullmatch(r"[\w.]+", name)]
    rows = TAGS + [(name, "cat", "") for name in plain]
    lines = [",".join(f'"{cell}"' for cell in row) for row in (("image", "tags", "split"), *rows)]
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    return expected


def source_of(root: Path) -> tuple[Source, CorpusSettings]:
    """The folder as a corpus."""
    settings = CorpusSettings(kind="folder", root=str(root), classes=CLASSES)
    return open_source(settings, seed=0), settings


def outcomes(root: Path) -> dict[str, Outcome]:
    """What becomes of the files of a folder and of the rows of its tag table, by name."""
    source, settings = source_of(root)
    rows, duplicates = select_rows(source.list_rows().rows)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings)
    found: defaultdict[str, Outcome] = defaultdict(set)
    for row in corpus.to_pylist():
        found[row["uri"]].add(OK)
    for row in duplicates.to_pylist() + rejected.to_pylist():
        found[row["uri"]].add(row["reason"])
    return {uri.removeprefix(f"{root}/"): outcome for uri, outcome in found.items()}
