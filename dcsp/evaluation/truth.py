"""Ground truth as it may be measured with: masks that do not fit their images are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.schemas import ERROR, HEAD_COLUMNS, OK, SKIPPED, TRUTH
from dcsp.tables.snapshot import ALL_MASKS, CorpusPart, Masks

UNFIT = "its mask shows ids that do not mean these classes"


def read_truth(store: Store, part: CorpusPart, masks: Masks) -> pa.Table | None:
    """The TRUTH rows of a part, dead ones included; those of masks that do not fit are errors.

    Args:
        store: The store.
        part: Of the corpus.
        masks: What its ingest found of all masks.

    Returns:
        None where the part has no ground truth.

    Raises:
        StoreError: The table is not there or damaged.
    """
    if part.truth is None:
        return None
    table = store.read_table(part.truth, TRUTH.names)
    if not masks.unfit:
        return table
    rows = table.to_pylist()
    for row in rows:
        if row["status"] == OK and _is_unfit(row["label"], masks):
            row.update(label=None, status=ERROR, error=UNFIT)
    return pa.Table.from_pylist(rows, TRUTH)


def measured(drawn: pa.Table, truth: pa.Table | None, dead: Sequence[int]) -> pa.Table:
    """Corrections that labels are measured by, as TRUTH rows: those of images without masks.

    Args:
        drawn: Live rows of the table of corrections.
        truth: As :func:`read_truth` gives it.
        dead: Rows of the part that are no longer part of the corpus.
    """
    rows = drawn.select([*HEAD_COLUMNS, "measure"]).to_pylist()
    masks = [SKIPPED] * len(rows) if truth is None else live_rows(truth, dead)["status"].to_pylist()
    for row, mask in zip(rows, masks, strict=True):
        row["label"] = None if mask == OK else row.pop("measure")
        row["status"] = OK if row["label"] else SKIPPED
    return pa.Table.from_pylist(rows, TRUTH)


def _is_unfit(label: bytes, masks: Masks) -> bool:
    if ALL_MASKS in masks.unfit:
        return True
    return bool(np.isin(decode_labels(label), masks.unfit).any())
