"""A loop that one writes to put images and masks into a Parquet file: Pillow, hashlib, pyarrow."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dcsp.corpus.sources.base import SourceRow


def ingest(rows: Sequence[SourceRow], classes: Sequence[str], path: Path) -> int:
    """Decode, check and hash every image and mask, keep their bytes; returns the rows written."""
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    table = []
    for row in rows:
        data = Path(row.uri).read_bytes()
        image = Image.open(io.BytesIO(data)).convert("RGB")
        assert row.mask_uri is not None
        mask_data = Path(row.mask_uri).read_bytes()
        mask = np.array(Image.open(io.BytesIO(mask_data)))
        ids = np.unique(mask)
        if mask.shape != (image.height, image.width) or ids[ids != 255].max() > len(classes):
            raise ValueError(f"bad mask: {row.mask_uri}")
        table.append(
            {
                "image_id": row.image_id,
                "split": row.split,
                "height": image.height,
                "width": image.width,
                "tags": sorted(numbers[tag] for tag in row.tags),
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": data,
                "mask": mask_data,
            }
        )
    pq.write_table(pa.Table.from_pylist(table), path)
    return len(table)
