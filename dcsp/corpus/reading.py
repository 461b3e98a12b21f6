"""From listed rows to corpus, truth and rejected tables: bad input is met here, once.

Every image is decoded to see that it can be; what is kept are the source's own bytes. Each row
ends in the corpus table or in the rejected table with a reason; faults of machines are raised.
Images that lie far away are read several at once and ahead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from dcsp.config import CorpusSettings
from dcsp.corpus.held import Stored
from dcsp.corpus.rejected import BAD_MASK, MASK_STAGE, TAG_STAGE, Row, rejection
from dcsp.corpus.sources.base import Source, SourceRow, id_fault, is_split
from dcsp.corpus.sources.files import is_local
from dcsp.errors import ImageError
from dcsp.images.decode import probe_size
from dcsp.images.isolated import check_images, decode_levels
from dcsp.labels import BACKGROUND, IGNORE, TagMapper
from dcsp.store.ahead import read_ahead
from dcsp.tables.codecs import encode_labels
from dcsp.tables.erased import ERASED
from dcsp.tables.schemas import CORPUS, ERROR, OK, REJECTED, SKIPPED, TRUTH

THREADS = 8
"""Images of a batch that are fetched at once, where each is a file of its own far away."""
AHEAD = 16
"""Images that are held until their turn comes."""
_TOGETHER, _TOGETHER_BYTES = 32, 2**23
"""Images, and about how many bytes of them, that a decoder gets at once: one by one costs a third
more."""
_TOGETHER_PIXELS = 2**25
"""Pixels of masks that are held at once."""
_PNG = b"\x89PNG"
SHOWN = "shown"
"""Column that the truth of a batch has besides: the class ids that a mask shows."""
_JUDGED_TRUTH = TRUTH.append(pa.field(SHOWN, pa.list_(pa.uint8())))


def read_rows(
    source: Source,
    rows: Sequence[SourceRow],
    mapper: TagMapper,
    settings: CorpusSettings,
    held: Mapping[str, Stored] = MappingProxyType({}),
    erased: Collection[str] = (),
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Read and check the rows of one batch.

    An image whose tags are partly unknown keeps the known ones, and the rejected table gets a row
    of stage ``tag``; an image with tags of which none is known is rejected; an image without any
    tag is kept without tags. A bad mask is an error row of the truth table and a row of stage
    ``mask`` of the rejected table: its image stays.

    Args:
        source: What reads a row.
        rows: To read.
        mapper: Means classes by tags.
        settings: Limits, and what masks mean.
        held: Images by their ids that were accepted before: they are not read again, but for their
            masks.
        erased: sha256 of image files that no ingest takes again.

    Returns:
        The corpus part, in the order of ``rows``; the truth part, row by row the same images,
        ``skipped`` where there is no mask, and ``SHOWN``; and the rejected rows, with reason
        ``invalid_id``, ``unknown_split``, ``unreadable_tags``, ``linked_folder``,
        ``closed_folder``, ``unknown_tag``, ``missing``, ``empty``, ``truncated``, ``oversized``,
        ``too_many_scans``, ``unreadable``, ``decoder_crash``, ``too_slow``, ``too_much_memory``,
        ``bad_mask`` or ``erased``; of shards also ``duplicate_member``, ``not_a_file``,
        ``several_images`` and those of :data:`dcsp.corpus.sources.shards.SHARD_FAULTS`; of URLs
        those of :mod:`dcsp.corpus.sources.fetch`.
    """
    corpus: list[Row] = []
    truth: list[Row] = []
    rejected: list[Row] = []
    judged = [_judge(row, mapper, held) for row in rows]
    asked = [image.row for image in judged if not (image.stage or image.stored)]
    with _contents(source, asked) as contents:
        for images in _together(judged, contents):
            _check(images, settings.max_pixels, erased)
            _check_masks(source, images, len(mapper.classes), settings)
            for image in images:
                if image.stage:
                    rejected.append(rejection(image.row, image.stage, image.reason, image.message))
                    continue
                if image.unknown:
                    told = _unknown(image.unknown)
                    rejected.append(rejection(image.row, TAG_STAGE, "unknown_tag", told))
                corpus.append(_corpus_row(image))
                truth.append(_truth_row(image))
                if isinstance(image.mask, ImageError):
                    told = truth[-1]["error"]
                    rejected.append(rejection(image.row, MASK_STAGE, BAD_MASK, told))
    return (
        pa.Table.from_pylist(corpus, CORPUS),
        pa.Table.from_pylist(truth, _JUDGED_TRUTH),
        pa.Table.from_pylist(rejected, REJECTED),
    )


@dataclass
class _Image:
    """A listed row and what has become of it: rejected where it has a ``stage``.

    ``stored`` is its image where it was accepted before: it is not read and decoded again.
    """

    row: SourceRow
    tags: list[int]
    unknown: list[str]
    stored: Stored | None = None
    stage: str = ""
    reason: str = ""
    message: str = ""
    data: bytes = b""
    size: tuple[int, int] = (0, 0)
    mask: tuple[bytes, list[int]] | ImageError | None = None

    def reject(self, stage: str, reason: str, message: str) -> None:
        self.stage, self.reason, self.message = stage, reason, message


def _together(
    judged: Sequence[_Image], contents: Iterator[bytes | ImageError]
) -> Iterator[list[_Image]]:
    """All images in order, so many at a time as a decoder gets at once, with their contents."""
    images: list[_Image] = []
    held = 0
    for image in judged:
        if not image.stage:
            data = image.stored.data if image.stored else next(contents)
            if isinstance(data, ImageError):
                image.reject("read", data.reason, str(data))
            else:
                image.data = data
                held += len(data)
        images.append(image)
        if len(images) >= _TOGETHER or held >= _TOGETHER_BYTES:
            yield images
            images, held = [], 0
    yield images


def _check(images: Sequence[_Image], max_pixels: int, erased: Collection[str]) -> None:
    """See how large images are, and reject those that cannot be decoded or were erased."""
    for image in images if erased else ():
        if not image.stage and hashlib.sha256(image.data).hexdigest() in erased:
            image.reject("decode", ERASED, "an image like it was erased")
    left = [image for image in images if not (image.stage or image.stored)]
    sizes = check_images([image.data for image in left], max_pixels)
    for image, size in zip(left, sizes, strict=True):
        if isinstance(size, ImageError):
            image.reject("decode", size.reason, str(size))
        else:
            image.size = size
    for image in images:
        if image.stored and not image.stage:
            image.size = image.stored.size
            try:
                probe_size(image.data, max_pixels)  # by its header: it was decoded before
            except ImageError as error:
                image.reject("decode", error.reason, str(error))


def _check_masks(
    source: Source, images: Sequence[_Image], classes: int, settings: CorpusSettings
) -> None:
    """Read and check the ground-truth masks of images that were not rejected."""
    meaning = settings.mask_ids()
    masked: list[tuple[_Image, bytes]] = []
    for image in (image for image in images if not image.stage):
        try:
            data = source.read_mask(image.row)
        except ImageError as error:
            image.mask = error
        else:
            if data is not None:
                masked.append((image, data))
    for group in _of_few_pixels(masked):
        files, sizes = [data for _, data in group], [image.size for image, _ in group]
        found = decode_levels(files, sizes, settings.max_pixels)
        for (image, data), ids in zip(group, found, strict=True):
            try:
                image.mask = check_mask(data, ids, classes, meaning)
            except ImageError as error:
                image.mask = error


def _of_few_pixels(masked: Sequence[tuple[_Image, bytes]]) -> Iterator[list[tuple[_Image, bytes]]]:
    """Masks, so many at a time as may be held decoded at once."""
    group: list[tuple[_Image, bytes]] = []
    pixels = 0
    for image, data in masked:
        size = image.size[0] * image.size[1]
        if group and pixels + size > _TOGETHER_PIXELS:
            yield group
            group, pixels = [], 0
        group.append((image, data))
        pixels += size
    if group:
        yield group


def check_mask(
    data: bytes,
    ids: NDArray[np.uint8] | ImageError,
    classes: int,
    meaning: Sequence[int] | None = None,
) -> tuple[bytes, list[int]]:
    """Check a ground-truth mask.

    Args:
        data: A palette or 8-bit grey image file whose pixel values are class ids.
        ids: HW uint8, its pixels, or why there are none.
        classes: Number of classes C.
        meaning: What each id from 0 on means here; None: itself.

    Returns:
        A palette or 8-bit grey PNG of ids 0 … C and 255: ``data`` itself where it is one; and the
        class ids that it shows, without 0 and 255, in order.

    Raises:
        ImageError: With reason ``bad_mask``.
    """
    if isinstance(ids, ImageError):
        raise ImageError(BAD_MASK, str(ids)) from ids
    most = classes if meaning is None else len(meaning) - 1
    held = np.flatnonzero(Image.fromarray(ids).histogram())
    strange = held[(held > most) & (held < IGNORE)]
    if strange.size:
        raise ImageError(
            BAD_MASK,
            f"it holds {strange[:5].tolist()}, not ids 0 to {most} or {IGNORE}: say in "
            "corpus.mask_classes what its ids mean",
        )
    table = np.full(256, IGNORE, np.uint8)
    table[: most + 1] = range(most + 1) if meaning is None else meaning
    shown = sorted({*table[held].tolist()} - {BACKGROUND, IGNORE})
    if meaning is not None:
        return encode_labels(table[ids]), shown
    return (data if data.startswith(_PNG) else encode_labels(ids)), shown


def _contents(
    source: Source, rows: Sequence[SourceRow]
) -> AbstractContextManager[Iterator[bytes | ImageError]]:
    """What each row holds, or why there is nothing, in their order.

    Local files are read one by one, and so are rows of a shard, which their source reads together.
    """
    read = partial(_read, source)
    if any(map(_is_far, rows)):
        return read_ahead(read, rows, THREADS, AHEAD)
    return nullcontext(map(read, rows))


def _is_far(row: SourceRow) -> bool:
    return not row.shard and not is_local(row.uri)


def _read(source: Source, row: SourceRow) -> bytes | ImageError:
    try:
        return source.read(row)
    except ImageError as error:
        return error


def _judge(row: SourceRow, mapper: TagMapper, held: Mapping[str, Stored]) -> _Image:
    """A row with its class ids and unknown tags; rejected where it is refused unread."""
    reason, message = _listing_fault(row)
    tags, unknown = mapper.map_tags(row.tags)
    if not reason and unknown and not tags:
        reason, message = "unknown_tag", _unknown(unknown)
    image = _Image(row, tags, unknown)
    if reason:
        image.reject("list", reason, message)
    else:
        image.stored = held.get(row.image_id)
    return image


def _listing_fault(row: SourceRow) -> tuple[str, str]:
    if row.problem:
        return row.reason, row.problem
    if fault := id_fault(row.image_id):
        return (
            "invalid_id",
            f"the id {row.image_id!r} cannot name a file ({fault}): rename the image",
        )
    if not is_split(row.split):
        return "unknown_split", f"its split {row.split!r} is none of train, val and test"
    return "", ""


def _corpus_row(image: _Image) -> Row:
    return {
        "image_id": image.row.image_id,
        "height": image.size[0],
        "width": image.size[1],
        "tags": image.tags,
        "split": image.row.split,
        "uri": image.row.uri,
        "sha256": hashlib.sha256(image.data).hexdigest(),
        "bytes": image.data,
        "status": OK,
    }


def _truth_row(image: _Image) -> Row:
    label, shown, status, message = None, None, SKIPPED, None
    if isinstance(image.mask, ImageError):
        status, message = ERROR, f"{image.mask.reason}: {image.mask}"
    elif image.mask is not None:
        (label, shown), status = image.mask, OK
    head = {"image_id": image.row.image_id, "height": image.size[0], "width": image.size[1]}
    return {**head, "label": label, SHOWN: shown, "status": status, "error": message}


def _unknown(tags: Sequence[str]) -> str:
    listed = ", ".join(repr(tag) for tag in tags[:10]) + (" …" if len(tags) > 10 else "")
    return f"not in corpus.classes or corpus.synonyms: {listed}"
