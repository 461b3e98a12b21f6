"""A stage so small that a test sees everything it does: lengths of ids, doubled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dcsp.run.here import Here
from dcsp.stages.parts import PartsMade, PartSummary, TableInput
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Part

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("value", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
SIZES = {"p0": 3, "p1": 1, "p2": 4, "p3": 2}
PARTS = [Part(name, rows) for name, rows in SIZES.items()]


@dataclass(frozen=True)
class Doubling(TableStage):
    """Twice the length of every id; ``error`` for ids with an ``e``, ``skipped`` for those with s.

    Attributes:
        diary: File that gets the first id of every part the model sees.
        stop_at: Ends the process, as a kill would, once the model sees the part of this name.
        lose: Rows that the stage wrongly loses of every part.
    """

    diary: str
    stop_at: str = ""
    lose: int = 0
    version: int = 1

    @property
    def key(self) -> StageKey:
        return StageKey("doubles", self.version)

    @property
    def schema(self) -> pa.Schema:
        return SCHEMA

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        return (TableInput("", CORPUS_DIRECTORY, ("image_id", "height")),)

    def load(self, store: Store, device: Device) -> PartModel:
        with Path(self.diary).open("a") as diary:
            diary.write("load\n")

        def model(rows: pa.Table) -> pa.Table:
            name = str(rows["image_id"][0].as_py()).split("-")[0]
            with Path(self.diary).open("a") as diary:
                diary.write(f"{name}\n")
            if name == self.stop_at:
                os._exit(137)
            return rows.append_column("raw", pa.array([len(i) for i in ids(rows)], pa.int64()))

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        statuses = ["error" if "e" in i else "skipped" if "s" in i else "ok" for i in ids(rows)]
        values = [
            2 * raw if status == "ok" else None
            for raw, status in zip(rows["raw"].to_pylist(), statuses, strict=True)
        ]
        made = pa.table(
            {
                "error": [None if status != "error" else "bad" for status in statuses],
                "status": statuses,
                "value": pa.array(values, pa.int64()),
                "image_id": ids(rows),
            }
        )
        return made.slice(0, made.num_rows - self.lose)


def ids(rows: pa.Table) -> Sequence[str]:
    """The ids of a table."""
    return [str(image_id) for image_id in rows["image_id"].to_pylist()]


def image_ids(part: str) -> list[str]:
    """The ids of a part of the corpus: one is an error, one skipped, where there are enough."""
    return [f"{part}-{'xesy'[number]}" for number in range(SIZES[part])]


def write_corpus(store: Store) -> None:
    """Write the corpus parts that the stage reads."""
    for part in SIZES:
        names = image_ids(part)
        table = pa.table({"image_id": names, "height": pa.array([7] * len(names), pa.int32())})
        store.write_table(part_file(CORPUS_DIRECTORY, part), table)


class Watched(Here):
    """Remembers what the last table was made of."""

    made = PartsMade()

    def parts(self, *args: Any) -> PartsMade:
        self.made = super().parts(*args)
        return self.made


def run_here(store: Store, stage: TableStage, parts: Sequence[Part]) -> list[PartSummary]:
    """Do the parts that are not there yet in this process."""
    watched = Watched(use_gpu=False)
    stage.compute(watched, store, parts, stage.key.stage)
    return list(watched.made.summaries)
