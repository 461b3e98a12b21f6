"""Kinds of input that come from outside: of each a good one, and what reads it in the program.

A reader returns what became of the input, and raises an error of the program or fails: whatever it
found has to be taken, refused or counted, and nothing may be written outside of its folder.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dcsp.config import CorpusSettings, HttpSettings
from dcsp.config.file import load_config
from dcsp.corpus.batches import select_rows
from dcsp.corpus.reading import check_mask, read_rows
from dcsp.corpus.rejected import lost_rows
from dcsp.corpus.sources.base import Source
from dcsp.corpus.sources.fetch import fetch
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.sources.names import ImageFiles
from dcsp.corpus.sources.parquet import ParquetSource
from dcsp.corpus.sources.tag_tables import read_tags
from dcsp.corpus.sources.webdataset import WebDatasetSource
from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_levels, decode_rgb
from dcsp.inspection.mask_files import MaskFolder
from tests.corpus.tars import END, header, padded, tar_bytes
from tests.dirty.planted import CLASSES, MAPPER, OK, PHOTO, encode
from tests.http_server import response, serve

MAX_PIXELS = 4_000_000
_SPLITS = ("train", "val")
_CONFIG = Path("jobs/configs/voc676_quick.yaml")


_IDS = np.asarray(PHOTO[..., 0] % 3)
_DEEP = PHOTO[..., 0].astype(np.uint16) * 257
_PIXEL = encode(Image.new("L", (1, 1)), "PNG")


def _image(format_: str, **options: Any) -> Callable[[], bytes]:
    return lambda: encode(Image.fromarray(PHOTO), format_, **options)


def _seen(data: bytes, _: Path) -> str:
    """Checking and decoding must come to the same."""
    found: list[object] = []
    for look in (
        lambda: check_image(data, MAX_PIXELS),
        lambda: decode_rgb(data, MAX_PIXELS).shape[:2],
    ):
        try:
            found.append(look())
        except ImageError as error:
            found.append(error.reason)
    if found[0] != found[1]:
        raise AssertionError(f"checked: {found[0]}, decoded: {found[1]}")
    return found[0] if isinstance(found[0], str) else OK


def _masked(data: bytes, _: Path) -> str:
    check_mask(data, decode_levels(data, PHOTO.shape[:2]), len(CLASSES))
    return OK


def _table(kind: str) -> Callable[[bytes, Path], str]:
    def read(data: bytes, folder: Path) -> str:
        (folder / f"tags.{kind}").write_bytes(data)
        for image in read_tags(str(folder / f"tags.{kind}"), ImageFiles(str(folder), ())):
            _named(image, folder)
        return OK

    return read


def _packed(source: Source, kind: str, folder: Path) -> str:
    """Everything listed must be in the corpus, rejected, or a duplicate; the source adds up."""
    settings = CorpusSettings.model_validate(
        {"kind": kind, "root": str(folder), "classes": CLASSES, "max_pixels": MAX_PIXELS}
    )
    listed = source.list_rows().rows
    rows, duplicates = select_rows(listed)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings)
    lost = lost_rows(rejected.to_pylist())
    assert corpus.num_rows + len(lost) + duplicates.num_rows == len(listed)
    for image_id in corpus["image_id"].to_pylist():
        _named(image_id, folder)
    return OK if corpus.num_rows else "no row taken"


def _shard(data: bytes, folder: Path) -> str:
    (folder / "shard.parquet").write_bytes(data)
    return _packed(ParquetSource(str(folder), _SPLITS, 8), "parquet", folder)


def _archive(data: bytes, folder: Path) -> str:
    (folder / "shard.tar").write_bytes(data)
    found = _packed(WebDatasetSource(str(folder), _SPLITS, 2), "webdataset", folder)
    assert {path.name for path in folder.iterdir()} <= {"shard.tar", "out"}
    return found


def _export(data: bytes, folder: Path) -> str:
    """A COCO export with its images in the folder that COCO has them in."""
    root = folder / "coco"
    for name in ("train2017/0.jpg", "train2017/1.JPG", "2.png", "annotations/x.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(Image.fromarray(PHOTO[:8, :8]), "PNG"))
    table = root / "annotations/instances_train2017.json"
    table.write_bytes(data)
    return _packed(FolderSource(str(root), _SPLITS, (str(table),)), "folder", folder)


def _files(data: bytes, folder: Path) -> str:
    """Files of such names, as images and as masks, beside a table that names them."""
    root = folder / "photos"
    (root / "masks").mkdir(parents=True)
    names = data.split(b"\n")
    for name in names:
        for below in (b"", b"masks/"):
            path = bytes(root) + b"/" + below + name.replace(b"/", b"-").replace(b"\0", b"")[:200]
            if not Path(path.decode(errors="surrogateescape")).is_dir():
                Path(path.decode(errors="surrogateescape")).write_bytes(_PIXEL)
    (root / "tags.csv").write_bytes(b"image,tags\n" + b",cat\n".join(names[:4]) + b",dog\n")
    source = FolderSource(str(root), _SPLITS, masks=f"{root}/masks")
    return _packed(source, "folder", folder)


def _asked(data: bytes, _: Path) -> str:
    """Whatever a server says, there is an image file or an error."""
    with serve() as server:
        hosts = (f"127.0.0.1:{server.port}",)
        limits = HttpSettings(
            hosts=hosts, allow_private=True, attempts=1, timeout_seconds=2, max_bytes=100_000
        )
        check_image(fetch(server.says("/a.jpg", data), limits), MAX_PIXELS)
    return OK


def _named(image_id: str, folder: Path) -> None:
    """Export one label under a name that came from outside."""
    MaskFolder(folder / "out").write(image_id, b"")


def _config(data: bytes, folder: Path) -> str:
    (folder / "run.yaml").write_bytes(data)
    load_config(folder / "run.yaml")
    return OK


def _overrides(data: bytes, _: Path) -> str:
    load_config(_CONFIG, data.decode(errors="surrogateescape").splitlines())
    return OK


def _tags_csv() -> bytes:
    return b'image,tags,split\na.jpg,cat,train\nb/c.png,"cat;dog",val\n../d.jpg,dog,\n' * 3


def _dialect(cell: str, encoding: str, first: str = "") -> Callable[[], bytes]:
    rows = (("image", "tags", "split"), ("a.jpg", "cat", "train"), ("b/c.png", '"cat, dog"', "val"))
    return lambda: (first + "\n".join(cell.join(row) for row in rows) + "\n").encode(encoding)


def _names() -> bytes:
    names = ("a.jpg", "A.JPG", "a.PNG", "b.jfif", "c.heic", "a.xmp", "a.jpg.part", ".hidden.jpg")
    others = ("Thumbs.db", "noext", "e\u0301.jpg", "\u00e9.jpg", "d .jpg", "d%20.jpg", "clip.mov")
    return "\n".join((*names, *others)).encode()


def _settings() -> bytes:
    return b"corpus.classes=[cat, dog]\nstore=./s\nseed=3\ncorpus.synonyms={dog: [puppy]}\nname=x"


def _tags_jsonl() -> bytes:
    return b"".join(b'{"image": "a%d.jpg", "tags": ["cat", null]}\n' % i for i in range(6))


def _tags_json() -> bytes:
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": i, "category_id": 1} for i in range(4)],
    }
    return json.dumps(content).encode()


def _instances() -> bytes:
    names = ("0.jpg", "train2017/1.jpg", "2.PNG", "gone.jpg")
    content = {
        "info": {},
        "images": [{"id": str(i), "file_name": name} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": i, "category_id": 1 + i % 2} for i in range(4)],
    }
    return json.dumps(content).encode()


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2, **options)
    return sink.getvalue()


def _wide_parquet() -> bytes:
    """A footer that is larger than all images: many columns, long names, much metadata."""
    photo = encode(Image.fromarray(PHOTO[:8, :8]), "PNG")
    columns = {f"column {n} {'x' * 40}": [n] * 4 for n in range(150)}
    table = pa.table({"bytes": [photo] * 4, "tags": ["cat"] * 4, **columns})
    return _parquet(table.replace_schema_metadata({"notes": "y" * 20_000}))


def _dictionary_parquet() -> bytes:
    """Images and tags that stand in the file once, and in hundreds of rows."""
    photo = encode(Image.fromarray(PHOTO), "JPEG")
    columns = {"bytes": [photo] * 300, "tags": ["cat;dog"] * 300, "split": ["val"] * 300}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, use_dictionary=True, dictionary_pagesize_limit=2**20)
    return sink.getvalue()


def _tags_parquet() -> bytes:
    return _parquet(pa.table({"image": ["a", "b/c", "d"], "tags": [["cat"], None, ["dog"]]}))


def _images_parquet() -> bytes:
    photo = encode(Image.fromarray(PHOTO), "JPEG")
    ids = ["a", "b/c", "d", "e"]
    return _parquet(pa.table({"image_id": ids, "bytes": [photo] * 4, "tags": [["cat"]] * 4}))


def _images_tar() -> bytes:
    photo = encode(Image.fromarray(PHOTO), "JPEG")
    mask = encode(Image.fromarray(PHOTO[..., 0] % 3), "PNG")
    long = "deep/" * 30 + "d"
    return tar_bytes(
        [
            *[("a.jpg", photo), ("a.json", b'{"tags": ["cat"], "split": "val"}')],
            *[("b/c.jpg", photo), ("b/c.cls", b"1"), ("b/c.seg.png", mask)],
            *[(f"{long}.jpg", photo), (f"{long}.txt", b"cat, dog")],
        ]
    )


def _stray_tar() -> bytes:
    """Members that belong to no image, between those that do."""
    photo = encode(Image.fromarray(PHOTO[:8, :8]), "PNG")
    strays = (
        "a.heic",
        "a.v2.jpg",
        ".DS_Store",
        "README",
        "a.xmp",
        "b/._c.jpg",
        "b/c.mov",
        "x.json",
    )
    stray = [(name, b"-") for name in strays]
    return tar_bytes([("a.png", photo), *stray[:4], ("b/c.jfif", photo), *stray[4:]])


def _huge_tar() -> bytes:
    """Sizes that no file has, in each way a header can say them."""
    photo = encode(Image.fromarray(PHOTO[:8, :8]), "PNG")
    good = b"".join(header(name, len(photo)) + padded(photo) for name in ("a.png", "b.png"))
    record = b"30 size=9999999999999999999\n"
    pax = header("pax", len(record), b"x") + padded(record) + header("c.png", 5) + padded(b"12345")
    return good + header("d.png", b"\x80" + b"\xff" * 11) + pax + END


def _many_scans() -> bytes:
    """A progressive JPEG whose last scan stands there again and again."""
    jpeg = encode(Image.fromarray(PHOTO), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * 90 + jpeg[-2:]


def _answer() -> bytes:
    return response(encode(Image.fromarray(PHOTO), "JPEG"), "200 OK", "Content-Type: image/jpeg")


@dataclass(frozen=True)
class Kind:
    """A kind of file: a good one, and what reads it."""

    name: str
    good: Callable[[], bytes]
    read: Callable[[bytes, Path], str]


KINDS = (
    Kind("jpeg", _image("JPEG"), _seen),
    Kind("jpeg, progressive", _image("JPEG", progressive=True), _seen),
    Kind("png", _image("PNG"), _seen),
    Kind("gif", _image("GIF"), _seen),
    Kind("webp", _image("WEBP"), _seen),
    Kind("tiff", _image("TIFF", compression="tiff_lzw"), _seen),
    Kind("bmp", _image("BMP"), _seen),
    Kind("png, 16 bits", lambda: encode(Image.fromarray(_DEEP), "PNG"), _seen),
    Kind("avif", _image("AVIF"), _seen),
    Kind("jpeg 2000", _image("JPEG2000"), _seen),
    Kind("jpeg, 100 scans", _many_scans, _seen),
    Kind("mask", lambda: encode(Image.fromarray(_IDS), "PNG"), _masked),
    Kind("mask, palette", lambda: encode(Image.fromarray(_IDS).convert("P"), "PNG"), _masked),
    Kind("mask, tiff", lambda: encode(Image.fromarray(_IDS), "TIFF"), _masked),
    Kind("mask, 16 bits", lambda: encode(Image.fromarray(_DEEP), "PNG"), _masked),
    Kind("mask, colours", _image("PNG"), _masked),
    Kind("tags.csv", _tags_csv, _table("csv")),
    Kind("tags.csv, dialect", _dialect(";", "utf-8-sig", "sep=;\n"), _table("csv")),
    Kind("tags.csv, UTF-16", _dialect("\t", "utf-16"), _table("csv")),
    Kind("tags.jsonl", _tags_jsonl, _table("jsonl")),
    Kind("tags.parquet", _tags_parquet, _table("parquet")),
    Kind("instances.json", _tags_json, _table("json")),
    Kind("export of COCO", _instances, _export),
    Kind("names of files", _names, _files),
    Kind("shard.parquet", _images_parquet, _shard),
    Kind("parquet, footer", _wide_parquet, _shard),
    Kind("parquet, dictionary", _dictionary_parquet, _shard),
    Kind("shard.tar", _images_tar, _archive),
    Kind("tar, strays", _stray_tar, _archive),
    Kind("tar, sizes", _huge_tar, _archive),
    Kind("http answer", _answer, _asked),
    Kind("config", _CONFIG.read_bytes, _config),
    Kind("overrides", _settings, _overrides),
)
