"""From listed rows to corpus, truth and rejected tables: bad input is met here, once.

Every image is decoded to see that it can be; what is kept are the source's own bytes. Each row
ends in the corpus table or in the rejected table with a reason; faults of machines are raised.
Images that lie far away are read several at once and ahead.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from dcsp.images.decode import check_image, levels, probe_size
from dcsp.labels import IGNORE, TagMapper
from dcsp.store.ahead import read_ahead
from dcsp.tables.codecs import encode_labels
from dcsp.tables.schemas import CORPUS, ERROR, OK, REJECTED, SKIPPED, TRUTH

THREADS = 8
"""Images of a batch that are fetched at once, where each is a file of its own far away."""
AHEAD = 16
"""Images that are held until their turn comes."""


def read_rows(
    source: Source,
    rows: Sequence[SourceRow],
    mapper: TagMapper,
    settings: CorpusSettings,
    held: Mapping[str, Stored] = MappingProxyType({}),
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Read and check the rows of one batch.

    What ``held`` has by its id was accepted before and is not read again; its mask is. An image
    whose tags are partly unknown keeps the known ones, and the rejected table gets a row of stage
    ``tag``; an image with tags of which none is known is rejected; an image without any tag is kept
    without tags. A bad mask is an error row of the truth table and a row of stage
    ``mask`` of the rejected table: its image stays.

    Returns:
        The corpus part, in the order of ``rows``; the truth part, row by row the same images,
        ``skipped`` where there is no mask; and the rejected rows, with reason ``invalid_id``,
        ``unknown_split``, ``unreadable_tags``, ``linked_folder``, ``unknown_tag``, ``missing``,
        ``empty``, ``truncated``, ``oversized``, ``too_many_scans``, ``unreadable`` or
        ``bad_mask``; of shards also ``duplicate_member``, ``not_a_file``, ``several_images`` and
        those of :data:`dcsp.corpus.sources.shards.SHARD_FAULTS`; of URLs those of
        :mod:`dcsp.corpus.sources.fetch`.
    """
    corpus: list[Row] = []
    truth: list[Row] = []
    rejected: list[Row] = []
    judged = [(row, *_judge(row, mapper)) for row in rows]
    mask_ids = settings.mask_ids()
    asked = [row for row, reason, *_ in judged if not reason and row.image_id not in held]
    with _contents(source, asked) as contents:
        for row, reason, message, tags, unknown in judged:
            if reason:
                rejected.append(rejection(row, "list", reason, message))
                continue
            stored = held.get(row.image_id)
            data = stored.data if stored else next(contents)
            if isinstance(data, ImageError):
                rejected.append(rejection(row, "read", data.reason, str(data)))
                continue
            try:
                size = _size(data, stored, settings.max_pixels)
            except ImageError as error:
                rejected.append(rejection(row, "decode", error.reason, str(error)))
                continue
            if unknown:
                rejected.append(rejection(row, TAG_STAGE, "unknown_tag", _unknown(unknown)))
            corpus.append(_corpus_row(row, data, size, tags))
            truth.append(_truth_row(source, row, size, len(mapper.classes), mask_ids))
            if truth[-1]["status"] == ERROR:
                rejected.append(rejection(row, MASK_STAGE, BAD_MASK, truth[-1]["error"]))
    return (
        pa.Table.from_pylist(corpus, CORPUS),
        pa.Table.from_pylist(truth, TRUTH),
        pa.Table.from_pylist(rejected, REJECTED),
    )


def check_mask(
    data: bytes, size: tuple[int, int], classes: int, meaning: Sequence[int] | None = None
) -> bytes:
    """Check a ground-truth mask.

    Args:
        data: A palette or 8-bit grey image file whose pixel values are class ids.
        size: (height, width) of the image it belongs to.
        classes: Number of classes C.
        meaning: What each id from 0 on means here; None: itself.

    Returns:
        A palette or 8-bit grey PNG of ids 0 … C and 255: ``data`` itself where it is one.

    Raises:
        ImageError: With reason ``bad_mask``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "GIF", "TIFF")) as image:
            if image.size != size[::-1]:
                raise ImageError(BAD_MASK, f"it is {image.size}, its image {size[::-1]} pixels")
            if image.mode not in ("P", "L"):
                raise ImageError(BAD_MASK, f"it is {image.mode}, not palette or 8-bit grey")
            image.load()
            ids = levels(image)
            most = classes if meaning is None else len(meaning) - 1
            strange = np.unique(ids[_is_strange(ids, most)])
            kept = data if image.format == "PNG" else encode_labels(ids)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a broken file can make a decoder raise nearly anything
        raise ImageError(BAD_MASK, f"it cannot be decoded ({error})") from error
    if strange.size:
        raise ImageError(
            BAD_MASK, f"it holds {strange[:5].tolist()}, not ids 0 to {most} or {IGNORE}"
        )
    return kept if meaning is None else encode_labels(_translated(ids, meaning))


def _translated(ids: NDArray[np.uint8], meaning: Sequence[int]) -> NDArray[np.uint8]:
    """Ids of a mask as ids of ours; 255 stays."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(meaning)] = meaning
    return np.asarray(table[ids])


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


def _size(data: bytes, stored: Stored | None, max_pixels: int) -> tuple[int, int]:
    """(height, width) of an image that is accepted; one that was before is not decoded again.

    Raises:
        ImageError: It is not.
    """
    if stored is None:
        return check_image(data, max_pixels)
    probe_size(data, max_pixels)
    return stored.size


def _is_far(row: SourceRow) -> bool:
    return not row.shard and not is_local(row.uri)


def _read(source: Source, row: SourceRow) -> bytes | ImageError:
    try:
        return source.read(row)
    except ImageError as error:
        return error


def _is_strange(ids: NDArray[np.uint8], classes: int) -> NDArray[np.bool_]:
    """Where ids lie between the last class and 255: in one comparison, since bytes wrap around."""
    first = min(classes + 1, IGNORE)
    return (ids - np.uint8(first)) < np.uint8(IGNORE - first)


def _judge(row: SourceRow, mapper: TagMapper) -> tuple[str, str, list[int], list[str]]:
    """Why a row is refused before its image is read, if it is; its class ids and unknown tags."""
    reason, message = _listing_fault(row)
    tags, unknown = mapper.map_tags(row.tags)
    if not reason and unknown and not tags:
        reason, message = "unknown_tag", _unknown(unknown)
    return reason, message, tags, unknown


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


def _corpus_row(row: SourceRow, data: bytes, size: tuple[int, int], tags: list[int]) -> Row:
    return {
        "image_id": row.image_id,
        "height": size[0],
        "width": size[1],
        "tags": tags,
        "split": row.split,
        "uri": row.uri,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": data,
        "status": OK,
    }


def _truth_row(
    source: Source,
    row: SourceRow,
    size: tuple[int, int],
    classes: int,
    meaning: Sequence[int] | None,
) -> Row:
    label, status, message = None, SKIPPED, None
    try:
        data = source.read_mask(row)
        if data is not None:
            label, status = check_mask(data, size, classes, meaning), OK
    except ImageError as error:
        status, message = ERROR, f"{error.reason}: {error}"
    head = {"image_id": row.image_id, "height": size[0], "width": size[1]}
    return {**head, "label": label, "status": status, "error": message}


def _unknown(tags: Sequence[str]) -> str:
    listed = ", ".join(repr(tag) for tag in tags[:10]) + (" …" if len(tags) > 10 else "")
    return f"not in corpus.classes or corpus.synonyms: {listed}"
