"""The ceiling: the same network taught by true masks, to be measured beside what tags alone teach.

For comparisons alone (``truth: train``): the one place where masks become cues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from dcsp.config import RunConfig
from dcsp.cues.stage import CueStage, Row
from dcsp.cues.table import CueRow
from dcsp.methods.base import OnTopOf
from dcsp.methods.shared import StepMaker
from dcsp.stages.stage import Device, PartModel, Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import OK, SKIPPED
from dcsp.tables.snapshot import TRAIN, Snapshot
from dcsp.training.stage import TrainStage

VERSION = 1


@dataclass(frozen=True)
class TruthStage(CueStage):
    """Ground-truth masks as a cue table.

    Attributes:
        config: Settings of the run.
        files: Tables of masks of the training split.
    """

    config: RunConfig
    files: tuple[str, ...]

    method = "truth"

    @property
    def given_key(self) -> StageKey:
        """The masks decide the cues; the tables that hold them are named by their content."""
        return StageKey("cues", VERSION, {"method": self.method, "masks": sorted(self.files)})

    def load(self, store: Store, device: Device) -> PartModel:
        """Read all masks, encoded: a comparison is made on as many as people have drawn."""
        masks: dict[str, bytes] = {}
        for file in self.files:
            table = store.read_table(file, ["image_id", "label"])
            masks |= dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

        def model(rows: pa.Table) -> pa.Table:
            found = [masks.get(str(name)) for name in rows["image_id"].to_pylist()]
            status = pa.array([OK if mask else SKIPPED for mask in found])
            return (
                rows.drop_columns("bytes")
                .append_column("raw", pa.array(found, pa.large_binary()))
                .append_column("status", status)
            )

        return model

    def cue(self, row: Row) -> CueRow:
        """The mask, where there is one."""
        return CueRow(decode_labels(row["raw"]) if row["raw"] else None)


class CeilingMethod(OnTopOf):
    """Another method's run with true masks in the place of the cues of every phase."""

    def first(self, make: StepMaker, fcan: TrainStage) -> Iterator[Step[Stage]]:
        """The masks."""
        yield make.cues(_truth(make.config, make.snapshot))

    def following(self, make: StepMaker, phase: int, network: TrainStage) -> Iterator[Step[Stage]]:
        """The masks again."""
        yield make.cues(_truth(make.config, make.snapshot), phase)


def _truth(config: RunConfig, snapshot: Snapshot) -> TruthStage:
    parts = (part for part in snapshot.parts if part.split == TRAIN)
    return TruthStage(config, tuple(part.truth for part in parts if part.truth))
