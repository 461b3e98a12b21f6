"""Runs under a grid of settings, side by side: one table, and a gallery of the same images.

    python jobs/compare.py --config FILE --grid key=v1,v2 [--grid other.key=…] [--seeds N]
                           [--until cues_phaseN] [--ceiling] [key=value …] [--dry-run]

Every combination runs with the seeds 0 to N - 1, all in one store: what two runs share is computed
once. Submitting the same again computes nothing; a killed job resumes. No run is published.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from ._main import run_job
from ._options import Config, DryRun, Job, Overrides


def compare(
    config: Config,
    grid: Annotated[
        list[str],
        typer.Option(
            metavar="key=v1,v2", help="A setting and its values, in YAML; once for each key."
        ),
    ],
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Seeds 0 to N - 1.")] = 1,
    until: Annotated[
        str | None,
        typer.Option(metavar="cues_phaseN", help="Compare cues alone: runs end with this table."),
    ] = None,
    ceiling: Annotated[
        bool,
        typer.Option(
            "--ceiling",
            help="Also train each network on the true masks, and tell how near tags come to that.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Run a grid of settings and seeds side by side: one table, one gallery; publish none."""
    from dcsp.comparison.grid import CEILING, expand, parse_axis

    from ._comparing import run_comparison

    axes = [parse_axis(text) for text in grid]
    if ceiling:
        axes.append(CEILING)
    run_comparison(expand(config, overrides or (), axes, seeds), until, dry_run=dry_run)


main = Job(compare)

if __name__ == "__main__":
    run_job(main)
