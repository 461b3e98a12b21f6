"""What an ingest starts from where a file beside the snapshots was removed: what the rest tells."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from dcsp.corpus.catalogue import CATALOGUE, content_digests
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS, CORPUS_DIRECTORY, LINEAGES, part_file, snapshot_file
from dcsp.tables.schemas import HEAD_COLUMNS, SKIPPED, TRUTH
from dcsp.tables.snapshot import CorpusPart, Snapshot


def last_snapshot(store: Store, lineage: str) -> Snapshot | None:
    """The snapshot that a source became last; None before its first.

    Where nothing names it any more it is the one of its lineage that most images were added to. An
    earlier one would do: images that came since are read again.

    Raises:
        StoreError: A file cannot be read.
    """
    file = f"{LINEAGES}/{lineage}.json"
    if store.exists(file):
        fingerprint = store.read_json(file)["snapshot"]
        if store.exists(snapshot_file(fingerprint)):
            return Snapshot.load(store, fingerprint)
    names = (name for name in store.list(CORPUS) if name.endswith(".json"))
    known = (Snapshot.load(store, name.removesuffix(".json")) for name in names)
    kin = [snapshot for snapshot in known if snapshot.lineage == lineage]
    return max(kin, key=lambda snapshot: (snapshot.added, snapshot.fingerprint), default=None)


def catalogue_of_parts(store: Store, snapshot: Snapshot, missing: Collection[int]) -> pa.Table:
    """A catalogue made from parts alone: every image is where it is, and will be read once more.

    Args:
        store: The store.
        snapshot: What it is the catalogue of.
        missing: Indices of parts that are not there.

    Raises:
        StoreError: A part cannot be read.
    """
    tables = [
        _rows_of_part(store, part, index)
        for index, part in enumerate(snapshot.parts)
        if index not in missing
    ]
    return pa.concat_tables([CATALOGUE.empty_table(), *tables])


def _rows_of_part(store: Store, part: CorpusPart, index: int) -> pa.Table:
    columns = [*HEAD_COLUMNS, "tags", "split", "sha256"]
    corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name), columns)
    truth = store.read_table(part.truth, TRUTH.names) if part.truth else no_truth(corpus)
    values: dict[str, Any] = {
        "image_id": corpus["image_id"],
        "listed": [0] * corpus.num_rows,  # of no listing: digests have 64 bits
        "content": content_digests(corpus, truth),
        "tags": corpus["tags"].cast(CATALOGUE.field("tags").type),
        "part": [index] * corpus.num_rows,
        "row": range(corpus.num_rows),
        "mask": pa.nulls(corpus.num_rows, CATALOGUE.field("mask").type),
    }
    return live_rows(pa.table(values, schema=CATALOGUE), part.dead)


def no_truth(corpus: pa.Table) -> pa.Table:
    """Rows of the truth table for images without any mask.

    Args:
        corpus: Rows of the corpus table, with its head columns.
    """
    none = {"label": None, "status": SKIPPED, "error": None}
    rows = corpus.select(HEAD_COLUMNS).to_pylist()
    return pa.Table.from_pylist([row | none for row in rows], TRUTH)
