"""A job whose stage stands still, as a process of its own: KIND CONFIG STORE SCRATCH."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

from dcsp.config import ClusterSettings
from dcsp.progress import Progress
from dcsp.tables.store import Store
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._main import run_job
from tests.jobs.running import Run
from tests.jobs.stages import LengthStage, faulty, write_ids

STALL_MINUTES = 0.3
"""Longer than a training of the tiny run takes to start."""


def main(arguments: Sequence[str]) -> None:
    """Begin what never ends."""
    kind, config_file, store, scratch = arguments
    settings = ClusterSettings(train_cpus=1, stall_minutes=STALL_MINUTES)
    resources = _cluster.connect(settings)
    progress = Progress(kind, 1, stream=io.StringIO())
    if kind == "mining":
        lengths = Store(Path(scratch) / "lengths")
        todo = write_ids(lengths, parts=2, rows=2)
        stage = LengthStage(scratch, seconds=600)
        _cluster.map_parts(lengths, stage, todo, resources, settings, progress)
    elif kind == "training":
        plan = Run(Path(store), Path(config_file), "", "").plan()
        fcan = plan.step("fcan").stage
        assert isinstance(fcan, TrainStage)
        hanging = faulty(fcan, Path(scratch), "hangs")
        parts = plan.snapshot.of(["train"])
        _cluster.train(Store(store), hanging, parts, resources, settings, progress)
    else:
        _cluster.map_items(time.sleep, [600], settings)


if __name__ == "__main__":
    run_job(main)
