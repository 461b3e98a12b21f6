"""Equal tables give equal bytes, and pandas and DuckDB read them."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.schemas import CUES

LABELS = np.array([[0, 1, 2, 20], [255, 2, 0, 0], [3, 3, 3, 3]], dtype=np.uint8)


@given(
    values=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_equal_tables_give_equal_bytes(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes | None], cuts: list[int]
) -> None:
    store, other = (Store(tmp_path_factory.getbasetemp() / name) for name in ("equal", "as well"))
    whole = pa.table({"label": pa.array(values, pa.binary())})
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    pieces = [whole.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    store.write_table("whole", whole)
    other.write_table("whole", pa.concat_tables(pieces))
    assert store.read_bytes("whole") == other.read_bytes("whole")
    assert store.read_table("whole").equals(whole)


def cue_rows() -> pa.Table:
    cue = {name: None for name in CUES.names} | {"method": "dcsp", "phase": 0, "tags": [1, 2]}
    cue |= {"height": 3, "width": 4}
    done = cue | {"image_id": "one", "status": "ok", "label": encode_labels(LABELS)}
    failed = cue | {"image_id": "two", "status": "error", "error": "truncated: too short"}
    return pa.Table.from_pylist([done, failed], CUES)


def test_pandas_reads_a_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table("cues/part.parquet", cue_rows())
    frame = pd.read_parquet(store.path("cues/part.parquet"))
    assert list(frame["image_id"]) == ["one", "two"] and list(frame["status"]) == ["ok", "error"]
    assert list(frame["tags"][0]) == [1, 2]
    with Image.open(io.BytesIO(frame["label"][0])) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), LABELS)


def test_duckdb_reads_a_part(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table("cues/part.parquet", cue_rows())
    rows = duckdb.sql(
        f"select image_id, height, width, label, tags from '{tmp_path}/cues/*.parquet' "
        "where status = 'ok'"
    ).fetchall()
    ((image_id, height, width, label, tags),) = rows
    assert (image_id, tags) == ("one", [1, 2])
    with Image.open(io.BytesIO(label)) as image:
        assert (image.height, image.width) == (height, width)
        np.testing.assert_array_equal(np.array(image), LABELS)
