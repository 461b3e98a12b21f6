"""What a run would do, ask of the cluster, take and cost: known before anything is started.

    python jobs/plan.py --config FILE [--no-probe] [--snapshot FINGERPRINT]
                        [--price-per-cpu-hour X] [--price-per-gpu-hour X] [key=value …]

Reads the corpus manifest and the cluster, and runs the stages that are not done
on 16 images; nothing is written to the store. A run that would wait for ever is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.cli.base import AsJson

from ._main import run_job
from ._options import Config, Job, Overrides, read_config

Cost = Annotated[float | None, typer.Option(metavar="X", help="Of each that the cluster has.")]


def plan(
    config: Config,
    overrides: Overrides = None,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="By what earlier runs in the store took, if any."),
    ] = False,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="FP", help="Of the corpus; left out: what the source lists now."),
    ] = None,
    price_per_cpu_hour: Cost = None,
    price_per_gpu_hour: Cost = None,
    as_json: AsJson = False,
) -> None:
    """Say what a config would do, ask of the cluster, take and cost; write nothing."""
    settings = read_config(config, overrides)
    from dcsp.capacity.forecast import Price

    from ._planning import show_plan

    prices = (price_per_cpu_hour or 0.0, price_per_gpu_hour or 0.0)
    price = Price(*prices) if any(prices) else None
    show_plan(settings, snapshot, price, probes=not no_probe, as_json=as_json)


main = Job(plan)

if __name__ == "__main__":
    run_job(main)
