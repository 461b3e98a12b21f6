"""A job whose mining stands still, as a process of its own: one argument, a scratch folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from dcsp.config import ClusterSettings
from dcsp.progress import Progress
from dcsp.store.store import Store
from jobs import _cluster
from jobs._main import run_job
from tests.jobs.stages import LengthStage, write_ids

STALL_MINUTES = 0.1


def main(arguments: Sequence[str]) -> None:
    """Begin what never ends."""
    (scratch,) = arguments
    settings = ClusterSettings(stall_minutes=STALL_MINUTES)
    resources = _cluster.connect(settings)
    store = Store(Path(scratch) / "store")
    todo = write_ids(store, parts=2, rows=2)
    progress = Progress("lengths", 1, stream=io.StringIO())
    stage = LengthStage(scratch, seconds=600)
    _cluster.map_parts(store, stage, todo, resources, settings, progress)


if __name__ == "__main__":
    run_job(main)
