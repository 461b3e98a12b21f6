"""Masks that do not fit are no ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dcsp.evaluation.truth import read_truth
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.schemas import TRUTH
from dcsp.tables.snapshot import ALL_MASKS, CorpusPart, Masks

PART = CorpusPart("p", "val", 3, "truth/p.parquet")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    head = {"height": 2, "width": 2, "error": None}
    rows = [
        {"image_id": str(i), "label": encode_labels(np.full((2, 2), i, np.uint8)), "status": "ok"}
        for i in (1, 2)
    ] + [{"image_id": "3", "label": None, "status": "skipped"}]
    store = Store(tmp_path)
    store.write_table("truth/p.parquet", pa.Table.from_pylist([r | head for r in rows], TRUTH))
    return store


@pytest.mark.parametrize(
    ("unfit", "statuses"),
    [
        ((), ["ok", "ok", "skipped"]),
        ((2,), ["ok", "error", "skipped"]),
        ((ALL_MASKS,), ["error", "error", "skipped"]),
    ],
)
def test_masks_that_do_not_fit_are_errors_without_a_label(
    store: Store, unfit: tuple[int, ...], statuses: list[str]
) -> None:
    truth = read_truth(store, PART, Masks(2, unfit))
    assert truth is not None and truth.schema.equals(TRUTH)
    assert truth["status"].to_pylist() == statuses
    assert [label is not None for label in truth["label"].to_pylist()] == [
        status == "ok" for status in statuses
    ]


def test_a_part_without_masks_has_no_truth(store: Store) -> None:
    assert read_truth(store, CorpusPart("p", "val", 3), Masks()) is None
