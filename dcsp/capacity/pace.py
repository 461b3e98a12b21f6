"""What stages cost: seconds, bytes and memory, measured by a probe or by submissions that ended.

What was never measured has no pace: nothing here guesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dcsp.run.plan import Plan
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.layout import STAGE_FILE, is_manifest

INGEST, EVALUATION = "ingest", "evaluation"
"""Titles of what a run does before and after its steps."""


@dataclass(frozen=True)
class Pace:
    """What one stage costs.

    Attributes:
        source: Who measured it: the probe, or an earlier submission to the same store.
        start: Seconds before the first image: a process loads its model and runs it once.
        model: Seconds of one model actor an image; of a training, of its workers a step.
        tasks: Seconds of one CPU an image beside the models: reading, fusing, encoding, writing;
            of a training, to read and augment one worker's samples of a step.
        bytes: Bytes written an image; of a training, of its checkpoint.
        memory: Most bytes that the process had; None where nobody looked.
        part_bytes: Bytes that a part has without any image, where those were told apart.
    """

    source: Literal["probe", "earlier"]
    start: float
    model: float
    tasks: float
    bytes: float
    memory: int | None = None
    part_bytes: float = 0.0

    def size(self, rows: int, parts: int) -> float:
        """Bytes of a table of so many rows in so many parts."""
        return self.bytes * rows + self.part_bytes * parts


def earlier_paces(store: Store, plan: Plan) -> dict[str, Pace]:
    """Title of a step → pace of the latest submission that ended a stage like it in this store.

    Which stages are alike, :meth:`dcsp.stages.stage.Stage.costs_as` says.

    Raises:
        StoreError: The store cannot be read.
    """
    paces: dict[str, Pace] = {}
    for step in plan:
        records = sorted(_records(store, step), key=lambda found: str(found.get("finished", "")))
        known = [pace for pace in map(_pace, records) if pace]
        if known:
            paces[step.title] = known[-1]
    return paces


def _records(store: Store, step: Step[Stage]) -> Iterator[Mapping[str, Any]]:
    """What finished stages like a step wrote about themselves."""
    home = step.stage.key.directory.rpartition("/")[0]
    for name in store.list(home):
        directory = f"{home}/{name}"
        files = store.sizes(directory)
        if STAGE_FILE in files and step.stage.costs_as(
            store.read_json(f"{directory}/{STAGE_FILE}")
        ):
            for file in files:
                if is_manifest(file):
                    yield store.read_json(f"{directory}/{file}")


def _pace(record: Mapping[str, Any]) -> Pace | None:
    """None of a submission that found everything done, or that did not say what it did."""
    if record.get("steps"):
        each = record["seconds"] / record["steps"]
        return Pace("earlier", 0.0, each, 0.0, record["bytes"])
    if not record.get("computed") or not record.get("actors"):
        return None
    rows = sum(record["rows"].values())
    each = record["seconds"] * record["actors"] / record["computed"]
    return Pace("earlier", 0.0, each, 0.0, record["bytes"] / rows)
