"""``python -m tests.bench [ROW …]``: measure side by side with peers, print a table, write JSON."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench import crf, evaluation, fusion, ingest, mining, prediction, scale, training, walk
from tests.bench.harness import machine, table, write_rows
from tests.bench.inputs import Inputs

MODULES = (ingest, mining, fusion, crf, walk, training, prediction, evaluation, scale)
ROWS = {name: row for module in MODULES for name, row in module.ROWS.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows named, or all."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="dcsp-bench-") as directory:
        inputs = Inputs(Path(directory), options.quick, options.scenes)
        for name in options.rows or ROWS:
            print(f"… {name}", flush=True)
            row = ROWS[name](inputs)
            detail = {"quick": options.quick, **row.detail, "machine": where}
            rows.append(replace(row, detail=detail))
            write_rows(options.out, rows)  # what is measured is kept, whatever comes
            print(table(rows[-1:]), flush=True)
    print(f"\n{table(rows)}")
    if options.quick:
        print("\nQuick: few images and rounds, not figures to report.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="few images: see that it runs")
    parser.add_argument("--scenes", action="store_true", help="generated scenes, no photographs")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="default: bench.json")
    return parser


if __name__ == "__main__":
    main()
