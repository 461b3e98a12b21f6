"""Parquet shards with the images inside, as data sets are often handed about.

Columns: the image as ``bytes`` or ``image`` (binary, or a struct with ``bytes`` as Hugging Face
writes it); ``tags`` (list or text); optional ``image_id``, ``split`` (see
:func:`dcsp.corpus.sources.base.split_of`) and ``mask`` (bytes of a PNG of class ids, for evaluation
alone). Without ``image_id`` an image is named after its shard and row.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcsp.corpus.sources.base import Listed, SourceRow, is_listed, split_of
from dcsp.corpus.sources.faults import ask, told_of_one_file, told_of_parquet
from dcsp.corpus.sources.shards import Shard, ShardedSource, find_shards
from dcsp.corpus.sources.tag_tables import split_tags
from dcsp.errors import CorpusError, ImageError, PlaceError
from dcsp.store.remote import open_filesystem, retried

GROUP_BYTES = 2**30
"""Most bytes of images and masks, uncompressed, that a row group may hold: it is read whole."""
TAG_BYTES = 2**28
"""Most bytes of ids, tags and splits of a row group, each counted as often as it stands there."""
_IMAGE_COLUMNS = ("bytes", "image")
_COLUMNS = ("image_id", "tags", "split", "mask")


@dataclass(frozen=True)
class ParquetSource(ShardedSource):
    """A Parquet file, or every ``.parquet`` file below a folder.

    Attributes:
        root: Local path or URL of the file or folder.
        splits: Splits to list.
        part_rows: Row groups are taken together until they hold as many rows; such a group of
            rows becomes whole parts, so that each row group is read about once.
    """

    root: str
    splits: tuple[str, ...]
    part_rows: int

    def shards(self) -> tuple[list[Shard], Counter[str]]:
        """The files; see :meth:`dcsp.corpus.sources.shards.ShardedSource.shards`."""
        return find_shards(self.root, r"\.parquet", "parquet")

    def list_shard(self, shard: Shard) -> Listed:
        """The rows of one file; see :meth:`dcsp.corpus.sources.shards.ShardedSource.list_shard`."""
        rows: list[SourceRow] = []
        found = skipped = 0
        with told_of_parquet(shard.uri), _open(shard.uri) as file:
            for row in self._rows(file, shard):
                found += 1
                if is_listed(row.split, self.splits):
                    rows.append(row)
                else:
                    skipped += 1
        return Listed(rows, found, skipped)

    def read(self, row: SourceRow) -> bytes:
        """The image bytes of a row."""
        shard, group, position = _locate(row.uri)
        table = _read_group(shard, group, row.etag)
        column = next(name for name in _IMAGE_COLUMNS if name in table.column_names)
        return _bytes(table, column, position)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask bytes of a row, ``None`` where there are none."""
        if row.mask_uri is None:
            return None
        shard, group, position = _locate(row.uri)
        return _bytes(_read_group(shard, group, row.etag), "mask", position) or None

    def _rows(self, file: pq.ParquetFile, shard: Shard) -> Iterator[SourceRow]:
        """The rows of a file, whatever their split."""
        columns = set(file.schema_arrow.names)
        if "tags" not in columns or not columns & set(_IMAGE_COLUMNS):
            raise CorpusError(
                f"{shard.uri} has the columns {sorted(columns)}: it needs tags, and bytes or image."
            )
        wanted = [c for c in ("image_id", "tags", "split") if c in columns]
        number, chunk, filled = 0, 0, 0
        for group in range(file.num_row_groups):
            records = _tag_columns(file, shard.uri, group, wanted).to_pylist()
            if filled >= self.part_rows:
                chunk, filled = chunk + 1, 0
            filled += len(records)
            for position, record in enumerate(records):
                uri = f"{shard.uri}#{group:06d}/{position:08d}"
                yield SourceRow(
                    image_id=str(record.get("image_id") or f"{shard.name}/{number:08d}"),
                    uri=uri,
                    split=split_of(record.get("split")),
                    tags=tuple(sorted(set(split_tags(record["tags"])))),
                    mask_uri=uri if "mask" in columns else None,
                    etag=shard.etag,
                    shard=f"{shard.uri}#{chunk:06d}",
                )
                number += 1


@lru_cache(maxsize=4)
def _read_group(uri: str, group: int, etag: str) -> pa.Table:
    """The last few row groups; ``etag`` makes a rewritten file another one."""
    try:
        with told_of_parquet(uri):
            return retried(lambda: _group_of(uri, group))
    except PlaceError:
        raise
    except CorpusError as error:  # what was listed is damaged: its rows are lost, others are not
        raise ImageError("unreadable", str(error).rstrip(".")) from error


def _group_of(uri: str, group: int) -> pa.Table:
    with _open(uri) as file:
        names = [n for n in (*_IMAGE_COLUMNS, "mask") if n in file.schema_arrow.names]
        _require_small(file, uri, group, names, GROUP_BYTES)
        return file.read_row_group(group, columns=[*names])


def _tag_columns(file: pq.ParquetFile, uri: str, group: int, names: Sequence[str]) -> pa.Table:
    """The columns of a row group that are listed."""
    _require_small(file, uri, group, names, TAG_BYTES)
    table = file.read_row_group(group, columns=[*names])
    size = sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks)
    if size > TAG_BYTES:
        raise _too_large(uri, group, size, TAG_BYTES)
    return table


def _require_small(
    file: pq.ParquetFile, uri: str, group: int, names: Sequence[str], limit: int
) -> None:
    """Judge a row group by the footer, before anything of it is read.

    Raises:
        CorpusError: Its columns have too many bytes.
    """
    told = file.metadata.row_group(group)
    columns = [told.column(index) for index in range(told.num_columns)]
    sizes = {
        column.path_in_schema: column.total_uncompressed_size
        for column in columns
        if column.path_in_schema.partition(".")[0] in names
    }
    if sum(sizes.values()) > limit:
        raise _too_large(uri, group, sum(sizes.values()), limit)


def _too_large(uri: str, group: int, size: int, limit: int) -> CorpusError:
    return CorpusError(
        f"{uri} has {size} bytes in its row group {group}, more than {limit}: write it with "
        "smaller row groups."
    )


def _text_bytes(array: Any) -> int:
    """Bytes of text, of which a dictionary holds each but once."""
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array.flatten()
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0


def _open(uri: str) -> pq.ParquetFile:
    """A shard, whose texts and images are read as dictionaries, as they are written.

    Otherwise a value that stands once in the file would take memory for each row that has it.
    """
    fs, path = open_filesystem(uri)
    with told_of_one_file(type(fs), uri):
        file = ask(fs, uri, lambda: fs.open(path, "rb"))
        footer = pq.read_metadata(file)
        size = file.seek(0, io.SEEK_END)
        if footer.num_rows > size:
            raise CorpusError(f"{uri} has {footer.num_rows} rows in {size} bytes: write it anew.")
        columns = (footer.schema.column(index) for index in range(footer.num_columns))
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        return pq.ParquetFile(file, metadata=footer, read_dictionary=texts)


def _locate(uri: str) -> tuple[str, int, int]:
    shard, _, place = uri.rpartition("#")
    group, _, position = place.partition("/")
    return shard, int(group), int(position)


def _bytes(table: pa.Table, column: str, position: int) -> bytes:
    value: Any = table[column][position].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    return bytes(value or b"")
