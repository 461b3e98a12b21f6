"""Ingest alone: read the source, check every image once, write the parts of the corpus.

python jobs/ingest.py --config FILE [key=value …]
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.store.store import Store

from ._lease import hold
from ._main import run_job
from ._options import Config, Job, Overrides, read_config


def ingest(config: Config, overrides: Overrides = None) -> None:
    """Read the source, check every image once, and write the corpus; nothing is trained."""
    from ._chain import Chain

    settings = read_config(config, overrides)
    with hold(Store(settings.store), "ingest", settings) as lease:
        snapshot = Chain(settings, lease, mines=False, trains=False).ingest()
    for split in settings.corpus.splits:
        parts = snapshot.of([split])
        print(f"{split}: {snapshot.rows([split])} images in {len(parts)} parts")
    print(f"rejected: {snapshot.rejected}")
    print(f"snapshot: {snapshot.fingerprint}")


main = Job(ingest)

if __name__ == "__main__":
    run_job(main)
