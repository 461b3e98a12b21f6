"""``python -m tests.bench.corpus_scale_probe FOLDER NAME ROWS PARTS``: one measurement, as JSON.

A process of its own: the most memory that a process ever had does not go down again.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dcsp.capacity.forecast import forecast, table
from dcsp.capacity.pace import earlier_paces
from dcsp.capacity.resources import Resources
from dcsp.capacity.workload import largest_part, work_of
from dcsp.config import ClusterSettings
from dcsp.corpus.batches import plan_batches
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.evaluation.quality import evaluate_labels
from dcsp.evaluation.run import Qualities, add_qualities
from dcsp.run.overview import stages_text
from dcsp.run.plan import build_plan
from dcsp.stages.parts import PartsMade, complete_table
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.snapshot import Snapshot
from jobs import _cluster
from tests.bench.corpus_scale import (
    LISTING,
    MEASURED,
    MINING,
    Size,
    config,
    snapshot_of,
    stage_of,
)
from tests.bench.stages import Marks
from tests.bench.stubs import SleepingStage, peak_memory, resident_memory

RESOURCES = Resources(64, 8, 8)
"""Of the cluster that forecasts are for."""


class Probe:
    """What is measured, on one store.

    Args:
        folder: Of the store.
        size: Of its corpus.
    """

    def __init__(self, folder: Path, size: Size) -> None:
        self.config = config(folder)
        self.store = Store(self.config.store)
        self.size = size
        self.fingerprint = snapshot_of(size).fingerprint

    def measure(self, name: str) -> dict[str, Any]:
        """Seconds and peak of one measurement; the work before it is not timed."""
        work: dict[str, Callable[[], Callable[[], Any]]] = dict(
            zip(MEASURED, self._works(), strict=True)
        )
        work |= {MINING: lambda: self.mine, LISTING: lambda: self.list_source}
        timed = work[name]()
        started = time.monotonic()
        more = timed()
        seconds = time.monotonic() - started
        told = {"seconds": seconds, "peak": peak_memory()}
        return told | more if isinstance(more, dict) else told

    def _works(self) -> Iterator[Callable[[], Callable[[], Any]]]:
        yield lambda: lambda: None
        yield lambda: self.load
        yield lambda: lambda: build_plan(self.config, self.load())
        yield lambda: self.pending("saliency")
        yield lambda: self.pending("cues_phase0")
        yield lambda: self.complete
        yield lambda: self.complete
        yield lambda: lambda: stages_text(self.store, self.config, self.load())
        yield lambda: self.forecast
        yield lambda: self.evaluation

    def load(self) -> Snapshot:
        snapshot = Snapshot.load(self.store, self.fingerprint)
        assert sum(part.rows for part in snapshot.parts) == self.size.rows
        return snapshot

    def pending(self, title: str) -> Callable[[], None]:
        """As a job does before it says that a stage is done, or what is left of it."""

        def work() -> None:
            snapshot = self.load()
            step = build_plan(self.config, snapshot).step(title)
            left = stage_of(step).pending(self.store, step.parts(snapshot))
            half = 0 if title == "saliency" else len(step.parts(snapshot)) // 2
            assert len(left) == half, (len(left), half)
            assert step.stage.is_done(self.store, step.parts(snapshot)) == (half == 0)

        return work

    def complete(self) -> None:
        snapshot = self.load()
        step = build_plan(self.config, snapshot).step("cues_phase0")
        parts = step.parts(snapshot)
        manifest = complete_table(self.store, step.stage.key, parts, PartsMade(), 1.0)
        assert manifest["rows"]["ok"] == sum(part.rows for part in parts)

    def forecast(self) -> None:
        """As ``dcsp plan --no-probe`` does, on a cluster that is known."""
        plan = build_plan(self.config, self.load())
        paces = earlier_paces(self.store, plan)
        assert paces["saliency"].source == "earlier"
        largest_part(self.store, plan.snapshot)
        works = work_of(self.store, plan, paces)
        lines = forecast(works, paces, RESOURCES, ClusterSettings())
        assert "saliency" in table(lines, RESOURCES, None)

    def evaluation(self) -> None:
        """What the driver does with the results of all parts: they come pickled, and are added."""
        label = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
        truth = pa.table({"status": ["ok"], "label": [encode_labels(label)], "image_id": ["a"]})
        rows = truth.append_column("tags", pa.array([[1, 2]]))
        quality = evaluate_labels(rows, truth, 20, lambda _: label)
        names = ("cues_phase0", "cues_phase0_s1", "cues_phase1", "val", "val_crf")
        sent = pickle.dumps(dict.fromkeys(names, quality))
        total: Qualities = {}
        for _ in range(self.size.parts):
            total = add_qualities(total, pickle.loads(sent))
        assert set(total) == set(names)

    def list_source(self) -> None:
        """What a job does with the rows of a source before it packs the first of them."""
        settings = self.config.corpus
        listing = list_corpus(self.store, settings, 0, _Source(self.size.rows))
        assert listing.known() is None
        batches = plan_batches(listing.rows, settings.part_rows)
        assert sum(map(len, batches)) == self.size.rows

    def mine(self) -> dict[str, Any]:
        """Every part through a stub model on a cluster of this machine; memory as it goes on."""
        snapshot = self.load()
        settings = ClusterSettings(actors=1)
        resources = _cluster.connect(settings)
        before = resident_memory()
        parts = snapshot.of(["train", "val"])
        with _Weighed("stub", self.size.rows) as marks:
            summaries = _cluster.map_parts(
                self.store, SleepingStage(0.0), parts, resources, settings, marks
            ).summaries
        assert sum(summary.rows for summary in summaries) == self.size.rows
        _cluster.disconnect()
        return {"before": before, "resident": marks.resident}


@dataclass(frozen=True)
class _Source:
    """As many rows as a folder of a bucket would list."""

    rows: int

    def list_rows(self) -> Listed:
        rows = [
            SourceRow(
                f"{n // 1000:05}/{n:09}",
                f"s3://bucket/images/{n // 1000:05}/{n:09}.jpg",
                "train",
                ("person", "dog"),
                None,
                f'"{n:032x}"',
            )
            for n in range(self.rows)
        ]
        return Listed.of(rows)

    def read(self, row: SourceRow) -> bytes:
        raise NotImplementedError

    def read_mask(self, row: SourceRow) -> bytes | None:
        raise NotImplementedError


class _Weighed(Marks):
    """A progress that weighs this process at every tenth."""

    def __init__(self, title: str, total: int) -> None:
        super().__init__(title, total)
        self.resident: list[int] = []

    def _reach(self, done: int, note: str) -> None:
        super()._reach(done, note)
        if done * 10 >= self.total * (len(self.resident) + 1):
            self.resident.append(resident_memory())


def main(folder: str, name: str, rows: str, parts: str) -> None:
    """Measure and print."""
    with contextlib.redirect_stdout(io.StringIO()):
        told = Probe(Path(folder), Size(int(rows), int(parts))).measure(name)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
