"""A folder of images with a table of tags: the corpus of people who bring their own.

Images may lie in subfolders; the id of an image is its path below the root without extension. The
tag table (CSV, JSONL or Parquet) has the columns ``image`` and ``tags``, and may have ``split``.
Several rows of one image add up; an image without a row is kept without tags; a row without an
image is rejected as missing. Rows without a split are of the training split; an image of several
splits, or of one that :func:`dcsp.corpus.source.split_of` does not know, is rejected.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcsp.corpus.files import IMAGE_SUFFIXES, Folder, read_uri, require_folder, stem, suffix
from dcsp.corpus.source import TRAIN, SourceRow, is_listed, split_of
from dcsp.errors import CorpusError, ImageError

_TABLES = ("tags.csv", "tags.jsonl", "tags.parquet")


@dataclass
class _Tagged:
    """What the tag table says of one image."""

    tags: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class FolderSource:
    """Images below a folder.

    Attributes:
        root: Local path or URL of the folder.
        splits: Splits to list.
        tags: Path or URL of the tag table; ``None``: ``tags.csv|jsonl|parquet`` in the root, and
            where there is none, no image has tags.
        masks: Folder of PNG masks of class ids, named like the images; used by evaluation alone.
        tagged: Whether a tag table counts; without one every image is a training image.
    """

    root: str
    splits: tuple[str, ...]
    tags: str | None = None
    masks: str | None = None
    tagged: bool = True

    def list_rows(self) -> list[SourceRow]:
        """List the images of the wanted splits; see :class:`dcsp.corpus.source.Source`."""
        folder = require_folder(self.root, "corpus.root")
        files = {name: etag for name, etag in folder.find().items() if self._is_image(name)}
        table = self._read_table(folder) if self.tagged else {}
        if not files and not table:
            raise CorpusError(
                f"corpus.root={self.root} holds no images: give a folder with files such as .jpg "
                "or .png in it or below it."
            )
        named = _by_file(table, files)
        masks = require_folder(self.masks, "corpus.masks").find() if self.masks else {}
        rows: list[SourceRow] = []
        for name in dict.fromkeys((*files, *named)):
            told = named.get(name, _Tagged())
            listed = sorted(s for s in told.splits or {TRAIN} if is_listed(s, self.splits))
            if not listed:
                continue
            mask = f"{stem(name)}.png"
            etag = files.get(name, "")
            conflict = f"its rows name the splits {sorted(told.splits)}: keep one"
            rows.append(
                SourceRow(
                    image_id=stem(name),
                    uri=folder.uri(name),
                    split=listed[0],
                    tags=tuple(sorted(told.tags)),
                    mask_uri=f"{(self.masks or '').rstrip('/')}/{mask}" if mask in masks else None,
                    etag=f"{etag}/{masks[mask]}" if mask in masks else etag,
                    problem=conflict if len(told.splits) > 1 else "",
                )
            )
        return rows

    def read(self, row: SourceRow) -> bytes:
        """The image file of a row."""
        if not suffix(row.uri):
            raise ImageError("missing", f"the tag table names {row.uri}: no such image")
        return read_uri(row.uri)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask file of a row, ``None`` where there is none."""
        return None if row.mask_uri is None else read_uri(row.mask_uri)

    def _is_image(self, name: str) -> bool:
        inside = Folder(self.root).uri(name)
        return suffix(name) in IMAGE_SUFFIXES and not (
            self.masks and inside.startswith(self.masks.rstrip("/") + "/")
        )

    def _read_table(self, folder: Folder) -> dict[str, _Tagged]:
        """Image as it is written → what is said of it, from all of its rows."""
        uri = self.tags
        if uri is None:
            uri = next((folder.uri(name) for name in _TABLES if folder.exists(name)), None)
        if uri is None:
            return {}
        try:
            data = read_uri(uri)
        except ImageError as error:
            if error.reason == "unreadable":
                raise CorpusError(f"corpus.tags: {error}.") from error
            raise CorpusError(f"corpus.tags={uri} is not there: check the path.") from error
        told: dict[str, _Tagged] = {}
        for record in read_tag_table(data, uri):
            image = str(record.get("image") or "").strip().replace("\\", "/")
            entry = told.setdefault(image.removeprefix("./"), _Tagged())
            entry.tags.update(split_tags(record.get("tags")))
            if str(record.get("split") or "").strip():
                entry.splits.add(split_of(record["split"]))
        return told


def read_tag_table(data: bytes, uri: str) -> Iterator[Mapping[str, Any]]:
    """The records of a CSV, JSONL or Parquet table of tags.

    Args:
        data: The whole file.
        uri: Its name, whose extension says what it is.

    Raises:
        CorpusError: It is no such table or lacks the columns ``image`` and ``tags``.
    """
    try:
        kind = suffix(uri)
        if kind == "csv":
            yield from _checked(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))), uri)
        elif kind == "jsonl":
            lines = (line for line in data.decode("utf-8-sig").split("\n") if line.strip())
            yield from _checked((json.loads(line) for line in lines), uri)
        elif kind == "parquet":
            yield from _checked(pq.read_table(pa.BufferReader(data)).to_pylist(), uri)
        else:
            raise CorpusError(f"corpus.tags={uri} must end in .csv, .jsonl or .parquet.")
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise CorpusError(f"corpus.tags={uri} cannot be read ({error}): write it anew.") from error


def split_tags(value: Any) -> list[str]:
    """The tags of a table's cell: a list, or text with commas or semicolons between the tags."""
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",")
    return [tag for tag in (str(part).strip() for part in parts if part is not None) if tag]


def _checked(records: Iterable[Any], uri: str) -> Iterator[Mapping[str, Any]]:
    for record in records:
        if not isinstance(record, Mapping) or "image" not in record or "tags" not in record:
            raise CorpusError(
                f"corpus.tags={uri} needs the columns image and tags in every row, as in "
                "cats/1.jpg,cat;dog."
            )
        yield record


def _by_file(table: Mapping[str, _Tagged], files: Mapping[str, str]) -> dict[str, _Tagged]:
    """File below the root → what the table says; images are named with or without extension."""
    by_id: dict[str, list[str]] = {}
    for file in files:
        by_id.setdefault(stem(file), []).append(file)
    named: dict[str, _Tagged] = {}
    for image, told in table.items():
        for name in [image] if image in files else by_id.get(image, [image]):
            entry = named.setdefault(name, _Tagged())
            entry.tags |= told.tags
            entry.splits |= told.splits
    return named
