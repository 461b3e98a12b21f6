"""Rows become aligned tables; whatever cannot be used is rejected with its reason."""

from __future__ import annotations

import gc
import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.reading import SHOWN, check_mask, read_rows
from dcsp.corpus.rejected import lost_rows
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.errors import ImageError, PlaceError
from dcsp.images.decode import decode_levels
from dcsp.labels import VOC_CLASSES, TagMapper
from dcsp.tables.codecs import decode_labels
from dcsp.tables.schemas import CORPUS, REJECTED, TRUTH
from tests.threads import no_thread_left

MAPPER = TagMapper(("cat", "dog"), {"cat": ["kitten"]})
SETTINGS = CorpusSettings(kind="folder", root="unused", classes=("cat", "dog"), max_pixels=10_000)


def png(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


GOOD = png(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3))


@dataclass
class Memory:
    """A source that holds its files."""

    files: dict[str, bytes] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)

    def list_rows(self) -> Listed:
        return Listed.of([row(name) for name in self.files])

    def read(self, row: SourceRow) -> bytes:
        if row.image_id not in self.files:
            raise ImageError("missing", "there is no such file")
        return self.files[row.image_id]

    def read_mask(self, row: SourceRow) -> bytes | None:
        return self.masks.get(row.image_id)


def checked(mask: bytes, size: tuple[int, int], *classes: Any) -> tuple[bytes, list[int]]:
    return check_mask(mask, decode_levels(mask, size), *classes)


def row(name: str, *tags: str, split: str = "train", uri: str = "") -> SourceRow:
    return SourceRow(name, uri or f"mem/{name}", split, tags, None, "")


def ingest(source: Memory, rows: Sequence[SourceRow]) -> tuple[pa.Table, pa.Table, pa.Table]:
    return read_rows(source, rows, MAPPER, SETTINGS)


def test_good_rows_keep_their_bytes_and_order() -> None:
    source = Memory({"b/1": GOOD, "a": GOOD}, {"a": png(np.full((4, 5), 2, np.uint8))})
    corpus, truth, rejected = ingest(source, [row("b/1", "dog", "Kitten", "DOG"), row("a")])
    assert (corpus.schema, truth.schema, rejected.schema) == (
        CORPUS,
        TRUTH.append(pa.field(SHOWN, pa.list_(pa.uint8()))),
        REJECTED,
    )
    assert corpus["image_id"].to_pylist() == truth["image_id"].to_pylist() == ["b/1", "a"]
    assert corpus["tags"].to_pylist() == [[1, 2], []]
    assert corpus["bytes"].to_pylist() == [GOOD, GOOD]
    assert corpus["sha256"].to_pylist() == [hashlib.sha256(GOOD).hexdigest()] * 2
    assert (corpus["height"].to_pylist(), corpus["width"].to_pylist()) == ([4, 4], [5, 5])
    assert truth["status"].to_pylist() == ["skipped", "ok"]
    assert (decode_labels(truth["label"][1].as_py()) == 2).all()
    assert rejected.num_rows == 0


def test_every_bad_row_is_rejected_with_its_reason() -> None:
    files = {
        "empty": b"",
        "text": b"hello",
        "cut": png(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8))[:3000],
        "large": png(np.zeros((200, 100), np.uint8)),
        "../up": GOOD,
        "unknown": GOOD,
        "mixed": GOOD,
    }
    rows = [row(name, "cat") for name in files if name not in ("unknown", "mixed")]
    rows += [row("unknown", "axe"), row("mixed", "axe", "cat"), row("gone", "cat")]
    rows += [replace(row("xml", "cat"), problem="its XML is broken"), row("bad\ud800id", "cat")]
    rows += [row("held", "cat", split="holdout")]
    corpus, truth, rejected = ingest(Memory(files), rows)
    assert corpus["image_id"].to_pylist() == truth["image_id"].to_pylist() == ["mixed"]
    assert corpus["tags"].to_pylist() == [[1]]
    found = {r["image_id"]: (r["stage"], r["reason"]) for r in rejected.to_pylist()}
    assert found == {
        "empty": ("decode", "empty"),
        "text": ("decode", "unreadable"),
        "cut": ("decode", "truncated"),
        "large": ("decode", "oversized"),
        "../up": ("list", "invalid_id"),
        "unknown": ("list", "unknown_tag"),
        "mixed": ("tag", "unknown_tag"),
        "gone": ("read", "missing"),
        "xml": ("list", "unreadable_tags"),
        "held": ("list", "unknown_split"),
        "bad\\ud800id": ("list", "invalid_id"),
    }
    assert len(lost_rows(rejected.to_pylist())) == len(rows) - corpus.num_rows
    assert "'axe'" in next(r["message"] for r in rejected.to_pylist() if r["image_id"] == "mixed")


def test_faults_of_the_machine_are_raised() -> None:
    class Broken(Memory):
        def read(self, row: SourceRow) -> bytes:
            raise PermissionError("no credentials")

    with pytest.raises(PermissionError):
        ingest(Broken(), [row("a", "cat")])


class Failing(Memory):
    """A far place that fails at some row, as a bucket does."""

    def read(self, row: SourceRow) -> bytes:
        if row.image_id == "fault":
            raise PlaceError("the bucket is gone")
        return super().read(row)

    def read_mask(self, row: SourceRow) -> bytes | None:
        if row.image_id == "mask fault":
            raise PlaceError("the bucket is gone")
        return super().read_mask(row)


ENDINGS = {
    "good": ("a", "b"),
    "missing last": ("a", "gone"),
    "missing first": ("gone", "a"),
    "missing all": ("gone", "lost"),
    "broken last": ("a", "text"),
    "refused last": ("a", "/refused"),
    "refused all": ("/refused", "/too"),
    "a fault": ("a", "fault", "b"),
    "a fault of a mask": ("a", "mask fault", "b"),
    "nothing": (),
}


@pytest.mark.parametrize("names", ENDINGS.values(), ids=ENDINGS)
def test_no_thread_is_left_behind_however_a_batch_of_far_rows_ends(names: Sequence[str]) -> None:
    """Nor is any left to the garbage collector, which may run under a lock that it needs."""
    files = dict.fromkeys(("a", "b", "mask fault"), GOOD) | {"text": b"hello"}
    rows = [row(name, "cat", uri=f"s3://bucket/{name}") for name in names]
    gc.disable()
    try:
        for _ in range(200):
            with no_thread_left(), suppress(PlaceError):
                ingest(Failing(files), rows)
    finally:
        gc.enable()


def test_thousands_of_bad_batches_of_far_rows_end() -> None:
    """With a collection every few objects, as any night has them, at any moment."""
    rows = [row(name, "cat", uri=f"s3://bucket/{name}") for name in ("a", "gone")]
    thresholds = gc.get_threshold()
    gc.set_threshold(50, 5, 1000)
    try:
        with no_thread_left():
            for _ in range(2000):
                assert ingest(Memory({"a": GOOD}), rows)[2].num_rows == 1
    finally:
        gc.set_threshold(*thresholds)


def test_size_is_that_of_the_upright_image() -> None:
    image = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    corpus, truth, _ = ingest(Memory({"a": png(np.asarray(image), exif=exif)}), [row("a", "cat")])
    assert (corpus["height"][0].as_py(), corpus["width"][0].as_py()) == (5, 4)
    assert (truth["height"][0].as_py(), truth["width"][0].as_py()) == (5, 4)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            png(np.zeros((5, 4), np.uint8)),
            r"is \(4, 5\), its image \(5, 4\) pixels: turn it as EXIF",
        ),
        (png(np.zeros((4, 6), np.uint8)), r"is \(6, 4\), its image \(5, 4\) pixels$"),
        (png(np.full((4, 5), 3, np.uint16)), "is I;16, not palette or 8-bit grey: save class ids"),
        (png(np.full((4, 5), 3, np.uint8)), r"holds \[3\].*: say in corpus.mask_classes"),
        (png(np.zeros((4, 5, 3), np.uint8)), "is RGB"),
        (b"no mask", "cannot be decoded"),
        (png(np.zeros((4, 5), np.uint8))[:45], "cannot be decoded"),
    ],
)
def test_a_bad_mask_is_told_of_and_its_image_stays(mask: bytes, message: str) -> None:
    corpus, truth, rejected = ingest(Memory({"a": GOOD}, {"a": mask}), [row("a", "cat")])
    assert corpus.num_rows == 1
    assert truth["status"].to_pylist() == ["error"]
    assert truth["label"].to_pylist() == [None]
    assert re.match(f"bad_mask: .*{message}", truth["error"][0].as_py())
    (told,) = rejected.to_pylist()
    assert (told["image_id"], told["stage"], told["reason"]) == ("a", "mask", "bad_mask")
    assert told["message"] == truth["error"][0].as_py()
    assert lost_rows([told]) == []


def test_ignored_pixels_and_palettes_are_kept_in_masks() -> None:
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    palette = Image.fromarray(ids).convert("P")
    palette.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    assert checked(buffer.getvalue(), (1, 4), 2) == (buffer.getvalue(), [1, 2])


def test_ids_of_a_mask_may_mean_other_classes() -> None:
    ids = np.array([[0, 1, 2, 3, 255]], np.uint8)
    meaning = CorpusSettings(
        kind="scenes", classes=("dog", "cat"), mask_classes=("cat", "cow", "dog")
    ).mask_ids()
    assert meaning == (0, 2, 0, 1)
    found, shown = checked(png(ids), (1, 5), 2, meaning)
    np.testing.assert_array_equal(decode_labels(found), [[0, 2, 0, 1, 255]])
    assert shown == [1, 2]
    with pytest.raises(ImageError, match=r"holds \[4\], not ids 0 to 3"):
        checked(png(np.full((1, 5), 4, np.uint8)), (1, 5), 2, meaning)


def test_masks_of_voc_serve_some_of_its_classes() -> None:
    settings = CorpusSettings(
        kind="voc", root="x", classes=("horse", "cat"), distractors=("person",), mask_classes="voc"
    )
    meaning = settings.mask_ids()
    assert meaning is not None and len(meaning) == 21
    assert [meaning[VOC_CLASSES.index(name) + 1] for name in ("horse", "cat", "person", "dog")] == [
        1, 2, 3, 0
    ]  # fmt: skip


@pytest.mark.parametrize("format_", ["BMP", "TIFF"])
def test_masks_of_other_formats_become_png(format_: str) -> None:
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format_)
    np.testing.assert_array_equal(decode_labels(checked(buffer.getvalue(), (1, 4), 2)[0]), ids)
