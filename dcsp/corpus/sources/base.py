"""What every corpus source offers: a cheap listing of rows, and the bytes of one row.

Sources hold settings alone and are picklable: a listing is made once on the driver, bytes are read
by whichever worker has the row. Reading never decodes; :mod:`dcsp.corpus.reading` does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dcsp.tables.fingerprint import digest_lines
from dcsp.tables.snapshot import TRAIN, VAL

_SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(
        ("val", "valid", "validation", "dev", "development", "eval", "evaluation"), VAL
    ),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True)  # there can be millions
class SourceRow:
    """One image as the source lists it.

    Attributes:
        image_id: Unique in the corpus; slashes make folders, no extension.
        uri: Where the bytes are.
        split: ``"train"`` or ``"val"``; what the source says where that names no split.
        tags: Tags as they are written in the source.
        mask_uri: Where the ground-truth mask is; ``None`` where there is none.
        etag: Changes when the bytes of image or mask do.
        shard: File that holds the row, where many rows share one; such rows stay in one part.
        problem: Why the row cannot be used although it is listed; empty for a good row.
        reason: What the rejected table calls that.
    """

    image_id: str
    uri: str
    split: str
    tags: tuple[str, ...]
    mask_uri: str | None
    etag: str
    shard: str = ""
    problem: str = ""
    reason: str = "unreadable_tags"


@dataclass(frozen=True)
class Listed:
    """All that a source holds: whatever it saw is a row, skipped, or counted among the others.

    Attributes:
        rows: Images of the wanted splits, and what has to be rejected.
        found: Images and other files that were seen, counted before any was judged. Masks and tag
            tables belong to their images and are none of them.
        skipped: Images of other splits.
        others: What is no part of any image, by suffix (``.heic``) or kind (``hidden``) → how many.
        idle_masks: Masks that are called like no image.
        idle_mask: One of them.
    """

    rows: list[SourceRow]
    found: int
    skipped: int = 0
    others: Counter[str] = field(default_factory=Counter)
    idle_masks: int = 0
    idle_mask: str = ""

    @classmethod
    def of(cls, rows: Sequence[SourceRow]) -> Listed:
        """A source that holds nothing but these rows."""
        return cls(list(rows), len(rows))

    def __post_init__(self) -> None:
        """See that nothing was lost or counted twice.

        Raises:
            AssertionError: The numbers do not add up.
        """
        told = len(self.rows) + self.skipped + self.others.total()
        if told != self.found:
            raise AssertionError(f"{self.found} files were seen, and {told} are accounted for")


class Source(Protocol):
    """A corpus source; implementations are picklable, and their ``repr`` tells their settings."""

    def list_rows(self) -> Listed:
        """Every image of the wanted splits, and what else there is; no image is read.

        Raises:
            CorpusError: The source is not there or not laid out as its kind demands.
        """
        ...

    def read(self, row: SourceRow) -> bytes:
        """The image file of a row.

        Raises:
            ImageError: With reason ``missing`` when it is no longer there, ``unreadable`` when a
                local file may not be read.
        """
        ...

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask file (PNG of class ids) of a row, ``None`` for a row without one.

        Raises:
            ImageError: As for :meth:`read`.
        """
        ...


def split_of(cell: object) -> str:
    """The split that a table's cell names; without one, it is the training split.

    Returns:
        ``train``, ``val`` or ``test``; else the cell itself, which ingest rejects.

    >>> [split_of(cell) for cell in (None, " Validation", "Dev", "test", "Demo")]
    ['train', 'val', 'val', 'test', 'demo']
    """
    text = str(cell or "").strip().lower() or TRAIN
    return _SPLITS.get(text, text)


def is_split(split: str) -> bool:
    """Whether :func:`split_of` knows what the cell of a table names."""
    return split in _SPLITS


def is_listed(split: str, wanted: Collection[str]) -> bool:
    """Whether a source lists rows of a split: a wanted one, or one that ingest has to reject."""
    return split in wanted or not is_split(split)


def listing_digest(rows: Iterable[SourceRow]) -> str:
    """Digest of a listing, whatever its order: equal as long as nothing in the source changed."""
    return digest_lines(sorted(repr(row) for row in rows))


def is_valid_id(image_id: str) -> bool:
    """Whether an id may name a file: relative, without ``..``, control characters or backslashes.

    >>> [is_valid_id(name) for name in ("cats/1", "/etc/passwd", "a/../b", "a//b", "")]
    [True, False, False, False, False]
    """
    return not id_fault(image_id)


def id_fault(image_id: str) -> str:
    """Why an id cannot name a file on every system; empty where it can.

    >>> [id_fault(name) for name in ("cats/1", "12:30", "a /b")]
    ['', "it holds ':'", "'a ' begins or ends with a space"]
    """
    if not image_id or len(image_id) > 1024:
        return "it is longer than 1024 characters" if image_id else "it is empty"
    if strange := re.search(r"[\x00-\x1f\x7f\\:]", image_id):
        return f"it holds {strange.group()!r}"
    try:
        image_id.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return "it is not UTF-8"
    for step in image_id.split("/"):
        if step in ("", ".", ".."):
            return "it is no path below a folder"
        if step != step.strip():
            return f"{step!r} begins or ends with a space"
        if len(step.encode()) > 240:
            return f"{step[:20]!r}… is longer than 240 bytes"
    return ""


def printable(text: str) -> str:
    """The text with what is not UTF-8 escaped, as file names of strangers need not be."""
    return text.encode(errors="backslashreplace").decode()
