"""Tables that say what is on the images of a folder.

CSV, JSONL and Parquet have the columns ``image`` (its path below the folder, with or without
extension) and ``tags``, and may have ``split``; case and spaces around these names do not count. A
CSV file is split at commas, semicolons or tabs, whichever its header is. A ``.json`` file holds
COCO's instances (:mod:`dcsp.corpus.sources.coco`). A table that cannot be understood to its last
row is refused with the number of the line: no row is guessed.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcsp.corpus.sources.base import split_of
from dcsp.corpus.sources.coco import Record, instances
from dcsp.corpus.sources.faults import told_of_parquet
from dcsp.corpus.sources.files import read_uri, suffix
from dcsp.corpus.sources.names import ImageFiles
from dcsp.errors import CorpusError, ImageError

_COLUMNS = ("image", "tags", "split")
_DELIMITERS = ",;\t"

Located = tuple[str, Record]
"""A row with where it stands, for messages."""


@dataclass
class Tagged:
    """What tag tables say of one image."""

    tags: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)


def read_tags(uri: str, files: ImageFiles) -> dict[str, Tagged]:
    """What one table says.

    Args:
        uri: Path or URL of the table, whose extension says what it is.
        files: Images of the folder.

    Returns:
        Image as it is written, all of its rows together.

    Raises:
        CorpusError: It is not there, may not be read, is no such table, or has no rows.
    """
    try:
        data = read_uri(uri)
    except ImageError as error:
        if error.reason == "unreadable":
            raise CorpusError(f"corpus.tags: {error}.") from error
        raise CorpusError(f"corpus.tags={uri} is not there: check the path.") from error
    told: dict[str, Tagged] = {}
    for where, record in _rows(data, uri, files):
        if any(map(_is_nested, (record["image"], *_listed(record["tags"]), record.get("split")))):
            raise CorpusError(f"{where} has a cell that is neither text nor a list of text.")
        image = str(record["image"] or "").strip().replace("\\", "/")
        entry = told.setdefault(image.removeprefix("./"), Tagged())
        entry.tags.update(split_tags(record["tags"]))
        if str(record.get("split") or "").strip():
            entry.splits.add(split_of(record["split"]))
    if not told:
        raise CorpusError(f"corpus.tags={uri} has no rows: write one for each image.")
    return told


def split_tags(value: Any) -> list[str]:
    """The tags of a table's cell: a list, or text with commas or semicolons between the tags."""
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",")
    return [tag for tag in (str(part).strip() for part in parts if part is not None) if tag]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_nested(cell: Any) -> bool:
    return isinstance(cell, Mapping | list | tuple | bytes)


def _rows(data: bytes, uri: str, files: ImageFiles) -> Iterator[Located]:
    """The rows of a table, each with all of its columns that count."""
    kind = suffix(uri)
    if kind in ("csv", "tsv"):
        yield from _csv_rows(_text(data, uri), uri)
    elif kind == "jsonl":
        yield from _jsonl_rows(_text(data, uri), uri)
    elif kind == "parquet":
        yield from _parquet_rows(data, uri)
    elif kind == "json":
        try:
            content = json.loads(data, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise CorpusError(
                f"corpus.tags={uri} cannot be read ({error}): write it anew."
            ) from error
        yield from ((uri, record) for record in instances(content, uri, files))
    else:
        raise CorpusError(f"corpus.tags={uri} must end in .csv, .tsv, .jsonl, .parquet or .json.")


def _text(data: bytes, uri: str) -> str:
    """UTF-8, or the UTF-16 that spreadsheets write."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
        before = text.partition("\0")[0]
    except UnicodeDecodeError as error:
        text, before = "", data[: error.start].decode("latin-1")
    if text == before:
        return text
    where = _line(uri, before.count("\n") + 1)
    raise CorpusError(f"{where} cannot be read (it is no UTF-8 text): save the table as UTF-8.")


def _csv_rows(text: str, uri: str) -> Iterator[Located]:
    start, delimiter = _dialect(text)
    lines = ((n, cells) for n, cells in _cells(text, delimiter, uri) if n >= start)
    number, header = next(lines, (0, []))
    if not number:
        return
    places = _places(header, _line(uri, number))
    named = {i for i, name in enumerate(header) if name.strip() or not i}  # first: pandas' index
    for number, cells in lines:
        where = _line(uri, number)
        if len(cells) <= max(places.values()):
            raise CorpusError(
                f"{where} has {len(cells)} of the {len(header)} cells of the header: write all, as "
                "in a.jpg, for an image without tags."
            )
        if over := [c for i, c in enumerate(cells) if i not in named and c.strip()]:
            raise CorpusError(
                f"{where} has {over[0]!r} below no column: put all tags of an image in one cell, "
                "in quotes or with another sign between them than between cells."
            )
        record = {column: cells[place] for column, place in places.items()}
        if any("\n" in cell for cell in record.values()) and _is_broken(record):
            raise CorpusError(f"{where} has a cell that goes over several lines: close its quotes.")
        yield where, record


def _is_broken(record: Record) -> bool:
    """Whether a name or a tag goes over several lines; between tags a line may end."""
    whole = (record["image"], *split_tags(record["tags"]), record.get("split", ""))
    return any("\n" in cell.strip() for cell in whole)


def _dialect(text: str) -> tuple[int, str]:
    """The line of the header, and what stands between cells: as Excel's ``sep=`` says, if any."""
    delimiters = _DELIMITERS
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if stated := re.fullmatch(r'"?sep=([^"])"?[,;\t]*\s*', line):
            delimiters = stated[1]
        elif line.strip():
            for delimiter in delimiters:
                names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
                if {"image", "tags"} <= {name.strip().lower() for name in names}:
                    return number, delimiter
            return number, delimiters[0]
    return 1, delimiters[0]


def _cells(text: str, delimiter: str, uri: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, with the line that each begins on."""
    text = re.sub(r'" +(?=[,;\t\r\n]|\Z)', '"', text)  # which strict readers refuse
    reader = csv.reader(
        io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise CorpusError(
                f"{_line(uri, number)} has a cell that cannot be read ({error}): close its quotes, "
                "and double those inside."
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield number, cells


def _jsonl_rows(text: str, uri: str) -> Iterator[Located]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = _line(uri, number)
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            fault: object = error
            if isinstance(error, json.JSONDecodeError):  # which counts lines from its own start
                fault = f"{error.msg} at character {error.colno}"
            raise CorpusError(
                f"{where} cannot be read ({fault}): write one JSON object a line."
            ) from error
        if not isinstance(row, Mapping):
            raise CorpusError(f"{where} is no JSON object: write one a line.")
        values = list(row.values())
        yield where, {column: values[place] for column, place in _places(row, where).items()}


def _parquet_rows(data: bytes, uri: str) -> Iterator[Located]:
    where = f"corpus.tags={uri}"
    with told_of_parquet(where):
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        places = _places(table.column_names, where)
        columns = [table.column(place).to_pylist() for place in places.values()]
    for number, cells in enumerate(zip(*columns, strict=True), 1):
        yield f"{where}, row {number}", dict(zip(places, cells, strict=True))


def _places(names: Iterable[object], where: str) -> dict[str, int]:
    """Column that counts → its position among the names."""
    written = [str(name).strip() for name in names]
    found: dict[str, int] = {}
    for place, name in enumerate(written):
        if name.lower() in found:
            raise CorpusError(f"{where} has the column {name.lower()} twice: join the two.")
        if name.lower() in _COLUMNS:
            found[name.lower()] = place
    if not {"image", "tags"} <= found.keys():
        there = ", ".join(map(repr, written[:10]))
        raise CorpusError(
            f"{where} needs the columns image and tags, as in image,tags and below it "
            f"cats/1.jpg,cat;dog: there are {there}."
        )
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose keys says one thing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _line(uri: str, number: int) -> str:
    return f"corpus.tags={uri}, line {number}"
