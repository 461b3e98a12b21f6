"""Evaluate alone: compare the tables of a finished chain with ground truth, write the report.

    python jobs/evaluate.py --config FILE [key=value …]

Predictions and trust that are missing are made first; everything before them must be done
(jobs/relabel.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.stages.step import Role
from dcsp.store.store import Store
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, read_config, run_job, show_figures


def main(arguments: Sequence[str]) -> None:
    """Evaluate what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    config = read_config(parser.parse_intermixed_args(arguments))
    with hold(Store(config.store), "evaluate", config) as lease:
        evaluate(Chain(config, lease, trains=False))


def evaluate(chain: Chain) -> None:
    """Predict where that is missing, evaluate, report, and publish as ``relabel`` does."""
    plan = chain.plan()
    own = (Role.PREDICTIONS, Role.TRUST)
    before = [step for step in plan if step.role not in own]
    chain.require(plan, before, "jobs/relabel.py")
    for step in plan:
        chain.run(plan, step)
    chain.finish(plan, partial(show_figures, chain.store))


if __name__ == "__main__":
    run_job(main)
