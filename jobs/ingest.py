"""Ingest alone: read the source, check every image once, write the parts of the corpus.

python jobs/ingest.py --config FILE [key=value …]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.store.store import Store
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, read_config, run_job


def main(arguments: Sequence[str]) -> None:
    """Ingest what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    config = read_config(parser.parse_intermixed_args(arguments))
    with hold(Store(config.store), "ingest", config) as lease:
        snapshot = Chain(config, lease, mines=False, trains=False).ingest()
    for split in config.corpus.splits:
        parts = snapshot.of([split])
        print(f"{split}: {snapshot.rows([split])} images in {len(parts)} parts")
    print(f"rejected: {snapshot.rejected}")
    print(f"snapshot: {snapshot.fingerprint}")


if __name__ == "__main__":
    run_job(main)
