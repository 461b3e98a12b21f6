"""Bytes that a hostile or broken source sends, by the thousand: each is taken or refused as a type.

Cases run in a process of their own, which may die or hang and then costs its case alone. A case is
decided by its number, so that one that fails can be run again: ``python -m tests.dirty --case N``.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
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
from dcsp.corpus.rejected import MASK_STAGE, TAG_STAGE
from dcsp.corpus.sources.fetch import fetch
from dcsp.corpus.sources.names import ImageFiles
from dcsp.corpus.sources.parquet import ParquetSource
from dcsp.corpus.sources.tag_tables import read_tags
from dcsp.corpus.sources.webdataset import WebDatasetSource
from dcsp.errors import DcspError, ImageError
from dcsp.images.decode import check_image, decode_levels, decode_rgb
from dcsp.inspection.mask_files import MaskFolder
from tests.corpus.tars import tar_bytes
from tests.dirty.planted import CLASSES, MAPPER, OK, PHOTO, encode
from tests.http_server import response, serve

SECONDS = 20.0
"""A case that takes longer hangs."""
MAX_PIXELS = 4_000_000
CRASHED, HUNG, WROTE = "crashed", "hung", "wrote outside"
FAILURES = (CRASHED, HUNG, WROTE)
_EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"..",
    b"/",
)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file as transfers, disks and attackers do: one to four times."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        size = len(changed)
        start = int(rng.integers(0, size + 1))
        length = int(rng.integers(1, 64))
        how = rng.integers(0, 6)
        if how == 0:
            del changed[start:]
        elif how == 1:
            del changed[start : start + length]
        elif how == 2:
            changed[start : start + length] = rng.bytes(length)
        elif how == 3:
            changed[start:start] = changed[start : start + length]
        elif how == 4 and size:
            changed[start % size] ^= 1 << int(rng.integers(0, 8))
        else:
            extreme = _EXTREMES[rng.integers(0, len(_EXTREMES))]
            changed[start : start + len(extreme)] = extreme
    return bytes(changed)


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


def _shard(data: bytes, folder: Path) -> str:
    (folder / "shard.parquet").write_bytes(data)
    settings = CorpusSettings(
        kind="parquet", root=str(folder), classes=CLASSES, max_pixels=MAX_PIXELS
    )
    source = ParquetSource(str(folder), ("train", "val"), 8)
    rows, _ = select_rows(source.list_rows().rows)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings)
    assert len({*corpus["image_id"].to_pylist(), *rejected["image_id"].to_pylist()}) == len(rows)
    for image_id in corpus["image_id"].to_pylist():
        _named(image_id, folder)
    return OK if corpus.num_rows else "no row taken"


def _archive(data: bytes, folder: Path) -> str:
    (folder / "shard.tar").write_bytes(data)
    settings = CorpusSettings(
        kind="webdataset", root=str(folder), classes=CLASSES, max_pixels=MAX_PIXELS
    )
    source = WebDatasetSource(str(folder), ("train", "val"), 2)
    listed = source.list_rows().rows
    rows, duplicates = select_rows(listed)
    corpus, _, rejected = read_rows(source, rows, MAPPER, settings)
    lost = [row for row in rejected.to_pylist() if row["stage"] not in (TAG_STAGE, MASK_STAGE)]
    assert corpus.num_rows + len(lost) + duplicates.num_rows == len(listed)
    for image_id in corpus["image_id"].to_pylist():
        _named(image_id, folder)
    assert [path.name for path in folder.iterdir() if path.name != "out"] == ["shard.tar"]
    return OK if corpus.num_rows else "no row taken"


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


def _tags_csv() -> bytes:
    return b'image,tags,split\na.jpg,cat,train\nb/c.png,"cat;dog",val\n../d.jpg,dog,\n' * 3


def _tags_jsonl() -> bytes:
    return b"".join(b'{"image": "a%d.jpg", "tags": ["cat", null]}\n' % i for i in range(6))


def _tags_json() -> bytes:
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": i, "category_id": 1} for i in range(4)],
    }
    return json.dumps(content).encode()


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
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
    Kind("mask", lambda: encode(Image.fromarray(PHOTO[..., 0] % 3), "PNG"), _masked),
    Kind("tags.csv", _tags_csv, _table("csv")),
    Kind("tags.jsonl", _tags_jsonl, _table("jsonl")),
    Kind("tags.parquet", _tags_parquet, _table("parquet")),
    Kind("instances.json", _tags_json, _table("json")),
    Kind("shard.parquet", _images_parquet, _shard),
    Kind("shard.tar", _images_tar, _archive),
    Kind("http answer", _answer, _asked),
    Kind("config", lambda: Path("jobs/configs/voc676_quick.yaml").read_bytes(), _config),
)


def run_case(number: int, folder: Path) -> tuple[str, str]:
    """One case in a folder that it may fill: the name of its kind, and what became of it.

    Raises:
        Exception: Whatever escaped that is no error for the user: a crash.
    """
    kind = KINDS[number % len(KINDS)]
    data = mutate(kind.good(), np.random.default_rng(number))
    inside = folder / "a" / "b" / "c"
    inside.mkdir(parents=True)
    try:
        outcome = kind.read(data, inside)
    except ImageError as error:
        outcome = error.reason
    except DcspError as error:
        outcome = f"refused: {type(error).__name__}"
    outside = {*folder.rglob("*")} - {*inside.rglob("*"), inside, *inside.parents}
    return kind.name, WROTE if outside else outcome


Case = Callable[[int, Path], tuple[str, str]]


def _work(numbers: range, connection: Connection, case: Case) -> None:
    """Do cases one after the other; says of each that it begins, then what came of it."""
    for number in numbers:
        connection.send((number, None))
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = case(number, Path(folder))
            except Exception as error:  # a crash of one case, told with its number
                found = (KINDS[number % len(KINDS)].name, f"{CRASHED}: {error!r}")
        connection.send((number, found))


def run_cases(
    numbers: range, seconds: float = SECONDS, case: Case = run_case
) -> Iterator[tuple[int, str, str]]:
    """Do cases in a process of their own: number, kind and outcome of each."""
    context = multiprocessing.get_context("spawn")
    todo = numbers
    while todo:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(todo, theirs, case), daemon=True)
        process.start()
        theirs.close()
        current, patience = todo.start, 60 + seconds  # the first message waits for the imports
        try:
            while current < todo.stop:
                if not ours.poll(patience):
                    yield current, KINDS[current % len(KINDS)].name, HUNG
                    break
                number, found = ours.recv()
                current, patience = number, seconds
                if found is not None:
                    yield number, *found
                    current += 1
        except (EOFError, ConnectionError):
            process.join()
            yield current, KINDS[current % len(KINDS)].name, f"{CRASHED}: exit {process.exitcode}"
        finally:
            process.kill()
            process.join()
        todo = range(max(current, todo.start) + (current < todo.stop), todo.stop)


def tally(results: Iterator[tuple[int, str, str]]) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Outcomes by kind, and what failed, told so that it can be run again."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    for number, kind, outcome in results:
        failed = outcome.startswith(FAILURES)
        counts[kind, outcome.partition(":")[0] if failed else outcome] += 1
        if failed:
            failures.append(f"case {number} ({kind}): {outcome}")
    return counts, failures
