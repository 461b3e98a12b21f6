"""Tables that say what is on the images of a folder.

CSV, JSONL and Parquet have the columns ``image`` (its path below the folder, with or without
extension) and ``tags``, and may have ``split``. ``instances_NAME.json`` is COCO's: an image is
tagged with the categories of its instances, lies in the folder NAME where there is one, and is of
the split that NAME begins with (``val2017``: val), else of the training split.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcsp.corpus.sources.base import split_of
from dcsp.corpus.sources.faults import told_of_parquet
from dcsp.corpus.sources.files import read_uri, suffix
from dcsp.errors import CorpusError, ImageError

Record = Mapping[str, Any]


@dataclass
class Tagged:
    """What tag tables say of one image."""

    tags: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)


def read_tags(uri: str, files: Collection[str]) -> dict[str, Tagged]:
    """What one table says.

    Args:
        uri: Path or URL of the table, whose extension says what it is.
        files: Images of the folder, as paths below it.

    Returns:
        Image as it is written, all of its rows together.

    Raises:
        CorpusError: It is not there, may not be read, or is no such table.
    """
    try:
        data = read_uri(uri)
    except ImageError as error:
        if error.reason == "unreadable":
            raise CorpusError(f"corpus.tags: {error}.") from error
        raise CorpusError(f"corpus.tags={uri} is not there: check the path.") from error
    told: dict[str, Tagged] = {}
    for record in _records(data, uri, files):
        image = str(record.get("image") or "").strip().replace("\\", "/")
        entry = told.setdefault(image.removeprefix("./"), Tagged())
        entry.tags.update(split_tags(record.get("tags")))
        if str(record.get("split") or "").strip():
            entry.splits.add(split_of(record["split"]))
    return told


def split_tags(value: Any) -> list[str]:
    """The tags of a table's cell: a list, or text with commas or semicolons between the tags."""
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",")
    return [tag for tag in (str(part).strip() for part in parts if part is not None) if tag]


def _records(data: bytes, uri: str, files: Collection[str]) -> Iterator[Record]:
    """The rows of a table."""
    try:
        kind = suffix(uri)
        if kind == "csv":
            yield from _checked(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))), uri)
        elif kind == "jsonl":
            lines = (line for line in data.decode("utf-8-sig").split("\n") if line.strip())
            yield from _checked((json.loads(line) for line in lines), uri)
        elif kind == "parquet":
            with told_of_parquet(f"corpus.tags={uri}"):
                records = pq.read_table(pa.BufferReader(data)).to_pylist()
            yield from _checked(records, uri)
        elif kind == "json":
            yield from _of_instances(json.loads(data), uri, files)
        else:
            raise CorpusError(f"corpus.tags={uri} must end in .csv, .jsonl, .parquet or .json.")
    except (ValueError, RecursionError, csv.Error) as error:
        raise CorpusError(f"corpus.tags={uri} cannot be read ({error}): write it anew.") from error


def _checked(records: Iterable[Any], uri: str) -> Iterator[Record]:
    for record in records:
        if not isinstance(record, Mapping) or "image" not in record or "tags" not in record:
            raise CorpusError(
                f"corpus.tags={uri} needs the columns image and tags in every row, as in "
                "cats/1.jpg,cat;dog."
            )
        yield record


def _of_instances(content: Any, uri: str, files: Collection[str]) -> Iterator[Record]:
    """Images of COCO's instances; what refers to an unknown image or category keeps its row."""
    name = re.sub(r"^instances_|\.json$", "", uri.rpartition("/")[2])
    folder = f"{name}/" if any(file.startswith(f"{name}/") for file in files) else ""
    stated = re.match("train|val|test", name)
    tags: defaultdict[Any, set[str]] = defaultdict(set)
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: folder + str(image["file_name"]) for image in content["images"]}
        for instance in content["annotations"]:
            category = instance["category_id"]
            tags[instance["image_id"]].add(names.get(category, f"category {category}"))
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"corpus.tags={uri} is none of COCO's instances ({error!r}): it needs categories with "
            "id and name, images with id and file_name, annotations with image_id and category_id."
        ) from error
    for key in dict.fromkeys((*images, *tags)):
        yield {
            "image": images.get(key, f"image {key}"),
            "tags": sorted(tags[key]),
            "split": stated.group() if stated else None,
        }
