"""Small tables for tests of stores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def numbers(rows: int) -> pa.Table:
    """Ids and numbers."""
    return pa.table({"image_id": [f"image{i}" for i in range(rows)], "value": list(range(rows))})


def noise(rows: int, seed: int = 0) -> pa.Table:
    """A table that does not compress, so that its bytes are mostly pages."""
    data = np.random.default_rng(seed).bytes(rows * 64)
    return pa.table({"bytes": [data[i * 64 : (i + 1) * 64] for i in range(rows)]})
