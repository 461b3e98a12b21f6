"""Parquet that the library ``datasets`` opens with images and masks decoded."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dcsp.corrections.drawn import BACKGROUND_NAME
from dcsp.exports.base import Format, Record, Records, Row, Shard
from dcsp.exports.place import Place
from dcsp.tables.snapshot import VAL

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_ROW_GROUP = 100  # images; the viewer of the Hub reads a group whole


class HuggingFace(Format):
    """``data/SPLIT-….parquet``, one a part: image and mask, and which classes the mask shows."""

    def write(self, row: Row, place: Place) -> Record:
        """Nothing: the part is written as one file."""
        data, suffix = row.image
        return {
            "image_id": row.image_id,
            "image": {"bytes": data, "path": f"{row.image_id}.{suffix}"},
            "mask": {"bytes": row.png, "path": f"{row.image_id}.png"},
            "classes": row.shown(self.names),
        }

    def pack(self, records: list[Record], shard: Shard, place: Place) -> list[Record]:
        """One Parquet file, named as the Hub names shards."""
        sink = io.BytesIO()
        table = pa.Table.from_pylist(records, self.schema)
        pq.write_table(table, sink, row_group_size=_ROW_GROUP, compression="snappy")
        split = "validation" if shard.split == VAL else shard.split
        name = f"{split}-{shard.index:05}-of-{shard.count:05}"
        place.write("data", name, sink.getvalue(), "parquet")
        return []

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """``classes.json``: id, name and colour of each, for those who do not read Parquet."""
        return {"classes.json": [self.class_list]}

    @property
    def schema(self) -> pa.Schema:
        """Columns, and in the metadata the features that ``datasets`` makes of them."""
        names = [BACKGROUND_NAME, *self.names.values()]
        features = {
            "image_id": {"dtype": "string", "_type": "Value"},
            "image": {"_type": "Image"},
            "mask": {"_type": "Image"},
            "classes": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"},
        }
        metadata: dict[bytes | str, bytes | str] = {
            "huggingface": json.dumps({"info": {"features": features}}),
            "dcsp.classes": self.class_list,
        }
        return pa.schema(
            [
                pa.field("image_id", pa.string()),
                pa.field("image", _IMAGE),
                pa.field("mask", _IMAGE),
                pa.field("classes", pa.list_(pa.int64())),
            ],
            metadata=metadata,
        )
