"""Evaluate alone: compare the tables of a finished chain with ground truth, write the report.

    python jobs/evaluate.py --config FILE [key=value …]

Predictions and trust that are missing are made first; everything before them must be done
(`dcsp relabel`).
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.stages.step import Role
from dcsp.store.store import Store

from ._lease import hold
from ._main import run_job
from ._options import Config, Job, Overrides, read_config

if TYPE_CHECKING:
    from ._chain import Chain


def evaluate(config: Config, overrides: Overrides = None) -> None:
    """Measure the tables of a finished chain, write its report, and publish it."""
    from ._chain import Chain

    settings = read_config(config, overrides)
    with hold(Store(settings.store), "evaluate", settings) as lease:
        evaluate_run(Chain(settings, lease, trains=False))


def evaluate_run(chain: Chain) -> None:
    """Predict where that is missing, evaluate, report, and publish as ``relabel`` does."""
    from ._figures import show_figures

    plan = chain.plan()
    own = (Role.PREDICTIONS, Role.TRUST)
    before = [step for step in plan if step.role not in own]
    chain.require(plan, before, "`dcsp relabel`")
    for step in plan:
        chain.run(plan, step)
    chain.finish(plan, partial(show_figures, chain.store))


main = Job(evaluate)

if __name__ == "__main__":
    run_job(main)
