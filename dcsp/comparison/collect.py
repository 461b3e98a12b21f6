"""From the finished runs of a comparison to its files; reads tables, computes nothing new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dcsp.comparison.gallery import compared_images
from dcsp.comparison.grid import Combination, GridRun
from dcsp.comparison.page import build_gallery_page, build_table_page
from dcsp.comparison.table import (
    Phases,
    Row,
    TableCost,
    beside_ceiling,
    make_row,
    measure,
)
from dcsp.comparison.text import as_csv, as_markdown, as_tree
from dcsp.run.plan import Plan
from dcsp.run.record import step_record
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import COMPARISONS, metrics_file
from dcsp.tables.snapshot import TRAIN, VAL


def comparison_name(name: str, plans: Sequence[Plan]) -> str:
    """Name of a comparison: the same grid over the same corpus has the same name."""
    return f"{name}-{digest([plan.run_id for plan in plans])[:12]}"


def comparison_rows(store: Store, runs: Sequence[GridRun], plans: Sequence[Plan]) -> list[Row]:
    """A row for each combination, in order of the grid.

    Args:
        store: The store of all runs.
        runs: The runs.
        plans: Their plans, all finished.

    Raises:
        StoreError: Metrics or a table of a run are not there.
    """
    groups: dict[Combination, list[Plan]] = {}
    for run, plan in zip(runs, plans, strict=True):
        groups.setdefault(run.combination, []).append(plan)
    measured = {c.settings: [measure_run(store, plan) for plan in groups[c]] for c in groups}
    return [
        make_row(
            dict(combination.settings),
            [plan.run_id for plan in found],
            beside_ceiling(measured[combination.settings], measured.get(combination.ceiling)),
        )
        for combination, found in groups.items()
    ]


def measure_run(store: Store, plan: Plan) -> dict[str, float | None]:
    """The figures of one finished run.

    Raises:
        StoreError: Its metrics or a table are not there.
    """
    steps = plan.behind(plan.steps[-1])
    steps = [step for step in steps if step.role not in (Role.PREDICTIONS, Role.TRUST)]
    records = [step_record(store, plan, step) for step in steps]
    tables = [
        TableCost(record["seconds"], record["bytes"], sum(record["rows"].values()))
        for record in records
        if "rows" in record
    ]
    trainings = [record["seconds"] for record in records if "rows" not in record]
    metrics = store.read_json(metrics_file(plan.run_id))
    return measure(metrics, _phases(plan, metrics), tables, trainings)


def _phases(plan: Plan, metrics: Mapping[str, Any]) -> Phases:
    """The cues of a plan by what they are for."""
    cues = metrics["cues"]
    first, *later = [cues[step.name] for step in plan.cue_steps]
    starts = [*plan.of(Role.START), *plan.of(Role.SEEDS)]
    return Phases(first, later[-1] if later else None, cues[starts[0].name] if starts else None)


def write_comparison(
    store: Store, runs: Sequence[GridRun], plans: Sequence[Plan]
) -> tuple[str, str]:
    """Write the table and the pages of a comparison whose runs have ended.

    Args:
        store: The store of all runs.
        runs: The runs.
        plans: Their plans.

    Returns:
        The directory in the store, and the table as Markdown.

    Raises:
        StoreError: Something of a run is not there.
    """
    title = comparison_name(runs[0].comparison, plans)
    directory = f"{COMPARISONS}/{title}"
    rows = comparison_rows(store, runs, plans)
    shown = {
        run.combination.label: plan
        for run, plan in zip(runs, plans, strict=True)
        if run.seed == runs[0].seed
    }
    images = list(compared_images(store, shown))
    markdown = as_markdown(rows)
    store.write_bytes(f"{directory}/table.csv", as_csv(rows).encode())
    store.write_json(f"{directory}/table.json", as_tree(title, rows))
    store.write_bytes(f"{directory}/table.md", markdown.encode())
    gallery = build_gallery_page(title, images, plans[0].snapshot.classes)
    store.write_bytes(f"{directory}/gallery.html", gallery.encode())
    page = build_table_page(title, rows, list(_facts(store, plans)))
    store.write_bytes(f"{directory}/index.html", page.encode())
    return directory, markdown


def _facts(store: Store, plans: Sequence[Plan]) -> Iterator[tuple[str, str]]:
    snapshot = plans[0].snapshot
    yield "runs", str(len(plans))
    for split in (TRAIN, VAL):
        yield f"{split} images", str(snapshot.rows([split]))
    yield "classes", str(len(snapshot.classes))
    yield "store", store.url
