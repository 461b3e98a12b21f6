"""Runs under a grid of settings, side by side: one table, and a gallery of the same images.

    python jobs/compare.py --config FILE --grid key=v1,v2 [--grid other.key=…] [--seeds N]
                           [--until cues_phaseN] [--ceiling] [key=value …] [--dry-run]

Every combination runs with the seeds 0 to N - 1, all in one store: what two runs share is computed
once. Submitting the same again computes nothing; a killed job resumes. No run is published.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.comparison.collect import write_comparison
from dcsp.comparison.grid import CEILING, GridRun, expand, parse_axis
from dcsp.comparison.plans import corpus_key, describe_comparison, draft_plans, plan_until
from dcsp.progress import say
from dcsp.run.plan import Plan
from dcsp.store.lease import Lease
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, run_job
from jobs._places import check_places


def main(arguments: Sequence[str]) -> None:
    """Run the comparison that the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="key=v1,v2",
        help="a setting and its values, in YAML; give it once for each key",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument(
        "--until", metavar="cues_phaseN", help="compare cues alone: runs end with this table"
    )
    parser.add_argument(
        "--ceiling",
        action="store_true",
        help="also train each network on the true masks, and tell how near the tags come to that",
    )
    parser.add_argument("--dry-run", action="store_true", help="print runs and stages and stop")
    parsed = parser.parse_intermixed_args(arguments)
    axes = [parse_axis(text) for text in parsed.grid]
    if parsed.ceiling:
        axes.append(CEILING)
    runs = expand(parsed.config, parsed.overrides, axes, parsed.seeds)
    for run in runs:
        check_places(run.config)
    if parsed.dry_run:
        print(describe_comparison(runs, parsed.until))
        return
    draft_plans(runs, parsed.until)  # refuses what no stage can be made of before anything runs
    store = Store(runs[0].config.store)
    with hold(store, "compare", runs[0].config) as lease:
        plans = compute(runs, parsed.until, lease)
        directory, markdown = write_comparison(store, runs, plans)
    print(markdown)
    print(f"comparison: {store.path(directory)}/index.html")


def compute(
    runs: Sequence[GridRun], until: str | None = None, lease: Lease | None = None
) -> list[Plan]:
    """Do every run, in order, in one cluster; returns their plans."""
    chains = plan_all(runs, until, lease)
    store = Store(runs[0].config.store)
    if all(store.exists(metrics_file(plan.run_id)) for _, plan in chains):
        say("every run of this comparison has ended before")
    for number, (run, (chain, plan)) in enumerate(zip(runs, chains, strict=True), start=1):
        say(f"run {number} of {len(runs)}: {run.label}")
        for step in plan:
            chain.run(plan, step)
        chain.record(plan)
    return [plan for _, plan in chains]


def plan_all(
    runs: Sequence[GridRun], until: str | None = None, lease: Lease | None = None
) -> list[tuple[Chain, Plan]]:
    """Ingest each different corpus once, before all stages, so that all runs have the same images.

    Returns:
        Chain and plan of each run, in order.
    """
    planned: list[tuple[Chain, Plan]] = []
    origins: dict[str, tuple[Chain, Plan]] = {}
    for run in runs:
        chain, key = Chain(run.config, lease), corpus_key(run.config)
        if key in origins:
            first, known = origins[key]
            chain.seconds |= first.seconds  # of ingest, the only stage so far
            plan = plan_until(run.config, known.snapshot, until)
        else:
            plan = plan_until(run.config, chain.ingest(), until)
            origins[key] = (chain, plan)
        planned.append((chain, plan))
    return planned


if __name__ == "__main__":
    run_job(main)
