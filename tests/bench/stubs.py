"""Stages whose work is known: what is measured is all that happens around it."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device, PartMap, PartModel
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import Part

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class SleepingStage:
    """A model that takes its time and no processor.

    Attributes:
        seconds: An image.
        name: Tells several of them apart.
    """

    seconds: float
    name: str = "sleeping"

    @property
    def key(self) -> StageKey:
        return StageKey(self.name, 1)

    @property
    def schema(self) -> pa.Schema:
        return SCHEMA

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        return (TableInput("", CORPUS_DIRECTORY, ("image_id",)),)

    def load(self, store: Store, device: Device) -> PartModel:
        def model(rows: pa.Table) -> pa.Table:
            time.sleep(self.seconds * rows.num_rows)
            return rows

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        return as_done(rows)


@dataclass(frozen=True)
class WeighedStage:
    """Another stage whose processes write down the most memory they ever had.

    Attributes:
        stage: The other stage.
        notes: Folder for a file a process.
    """

    stage: PartMap
    notes: str

    @property
    def key(self) -> StageKey:
        return self.stage.key

    @property
    def schema(self) -> pa.Schema:
        return self.stage.schema

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        return self.stage.inputs

    def load(self, store: Store, device: Device) -> PartModel:
        inner = self.stage.load(store, device)

        def model(rows: pa.Table) -> pa.Table:
            results = inner(rows)
            Path(self.notes, str(os.getpid())).write_text(str(peak_memory()))
            return results

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        return self.stage.finish(rows)

    def heaviest(self) -> int:
        """Bytes of the process that had most."""
        return max(int(path.read_text()) for path in Path(self.notes).iterdir())


def peak_memory() -> int:
    """The most bytes this process ever had in memory."""
    return _memory("VmHWM")


def resident_memory() -> int:
    """Bytes this process has in memory now; where the system does not tell, the most it had."""
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere a process counts the peak of the one that started it as its own
        lines = status.read_text(encoding="ascii").splitlines()
        (size,) = (line.split()[1] for line in lines if line.startswith(name))
        return int(size) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def as_done(rows: pa.Table) -> pa.Table:
    """Rows of a table in which all went well."""
    count = rows.num_rows
    return (
        rows.select(["image_id"])
        .append_column("status", pa.array([OK] * count))
        .append_column("error", pa.nulls(count, pa.string()))
    )


def image_ids(part: int, rows: int) -> pa.Table:
    """The rows of a part that has nothing but ids."""
    return pa.table({"image_id": [f"{part:06}-{row:04}" for row in range(rows)]})


def part_names(count: int, rows: int) -> list[Part]:
    """Parts of that many rows."""
    return [Part(f"part{number:06}", rows) for number in range(count)]
