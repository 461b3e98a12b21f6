"""Runs of a comparison, one after the other, and the pages that show them side by side."""

from __future__ import annotations

from collections.abc import Sequence

from dcsp.comparison.collect import write_comparison
from dcsp.comparison.grid import GridRun
from dcsp.comparison.plans import corpus_key, describe_comparison, draft_plans, plan_until
from dcsp.progress import say
from dcsp.run.plan import Plan
from dcsp.store.lease import Lease
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file

from ._chain import Chain
from ._lease import hold
from ._places import check_places


def run_comparison(runs: Sequence[GridRun], until: str | None, *, dry_run: bool) -> None:
    """Do every run, each to its end or to a table of cues, and write the comparison.

    Args:
        runs: Of the grid.
        until: The table of cues that they end with; None: they are trained to their end.
        dry_run: Print runs and stages instead.
    """
    for run in runs:
        check_places(run.config)
    if dry_run:
        print(describe_comparison(runs, until))
        return
    draft_plans(runs, until)  # refuses what no stage can be made of before anything runs
    store = Store(runs[0].config.store)
    with hold(store, "compare", runs[0].config) as lease:
        plans = compute(runs, until, lease)
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
