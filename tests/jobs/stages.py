"""Stages that are slow, die or go wrong on purpose, and corpora for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from dcsp.errors import StoreError, TrainingError
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Part
from dcsp.training.loop import Trainer
from dcsp.training.stage import TrainStage

ROWS = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("length", pa.int64()),
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
    ]
)


def first_time(scratch: str, name: str) -> bool:
    """Whether nobody came here before, in any process of this machine."""
    try:
        os.close(os.open(Path(scratch, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die_once(scratch: str) -> None:
    """End this process as a machine does that loses power, at the first call."""
    if first_time(scratch, "died"):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class LengthStage:
    """Length of every image's id; ``dies`` names where a process is lost once.

    Each part leaves a mark with the name of the node that its model ran on.
    """

    scratch: str
    seconds: float = 0.0
    dies: str = ""

    @property
    def key(self) -> StageKey:
        return StageKey("lengths", 1)

    @property
    def schema(self) -> pa.Schema:
        return ROWS

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        return (TableInput("", CORPUS_DIRECTORY, ("image_id",)),)

    def load(self, store: Store, device: Device) -> Callable[[pa.Table], pa.Table]:
        node = ray.get_runtime_context().get_node_id()

        def model(rows: pa.Table) -> pa.Table:
            ids = rows["image_id"].to_pylist()
            time.sleep(self.seconds)
            Path(self.scratch, f"{ids[0]}@{node}").touch()
            if self.dies == "model" and ids[0].startswith("p01"):
                die_once(self.scratch)
            return rows.append_column("length", pa.array([len(i) for i in ids], pa.int64()))

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        if self.dies == "finish":
            die_once(self.scratch)
        if self.dies == "by mistake":
            raise StoreError("The disk is full: make room.")
        count = rows.num_rows
        return rows.append_column("status", pa.array(["ok"] * count)).append_column(
            "error", pa.nulls(count, pa.string())
        )

    def nodes(self) -> set[str]:
        """Nodes whose models did something."""
        return {path.name.split("@")[1] for path in Path(self.scratch).glob("*@*")}


def write_ids(store: Store, parts: int, rows: int) -> list[Part]:
    """A corpus of ids alone."""
    made = [Part(f"p{index:02}", rows + index % 3) for index in range(parts)]
    for part in made:
        ids = [f"{part.name}-{row}" for row in range(part.rows)]
        store.write_table(
            part_file(CORPUS_DIRECTORY, part.name), pa.table({"image_id": pa.array(ids)})
        )
    return made


@dataclass(frozen=True)
class FaultyTraining(TrainStage):
    """A training whose step 3 goes wrong: a worker is lost once, or hangs, or diverges."""

    scratch: str = ""
    fault: str = ""

    def trainer(self, store: Store, device: str, rank: int = 0, world: int = 1) -> Trainer:
        trainer = super().trainer(store, device, rank, world)
        Path(self.scratch, f"start-{time.time_ns()}-{rank}").touch()
        step = trainer.step

        def faulty(batch: dict[str, Any]) -> dict[str, float]:
            if trainer.step_number == 2 and rank == world - 1:
                self._go_wrong()
            return step(batch)

        trainer.step = faulty  # type: ignore[method-assign]
        return trainer

    def starts(self) -> int:
        """How often a worker began."""
        return len(list(Path(self.scratch).glob("start-*")))

    def _go_wrong(self) -> None:
        if self.fault == "dies":
            die_once(self.scratch)
        elif self.fault == "hangs":
            time.sleep(600)
        elif self.fault == "diverges":
            raise TrainingError("The loss is not finite: lower fcan.learning_rate.")


def faulty(stage: TrainStage, scratch: Path, fault: str) -> FaultyTraining:
    """A training stage with a fault."""
    known = {field.name: getattr(stage, field.name) for field in fields(TrainStage)}
    return FaultyTraining(**known, scratch=str(scratch), fault=fault)
