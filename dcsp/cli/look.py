"""Commands that look into a store and leave it as it is, but for ``rejected --replay``."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from dcsp.cli.base import RunArgument, StoreArgument, app, as_path, held, write
from dcsp.errors import StoreError
from dcsp.inspection.inventory import find_output, find_run, open_store, outputs, runs
from dcsp.inspection.text import (
    difference_text,
    history_text,
    run_differences,
    section,
    store_text,
)
from dcsp.tables.layout import STAGE_FILE, report_file
from dcsp.text import shown

_MOST_TAGS = 50
"""Unknown tags shown; the store keeps more."""


@app.command()
def show(store: StoreArgument) -> None:
    """List the runs, the tables with their rows by status, and the checkpoints."""
    opened = open_store(store)
    typer.echo(store_text(runs(opened), outputs(opened)))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def plan(context: typer.Context) -> None:
    """Say what a config would do, ask of the cluster, take and cost (--help: how)."""
    # A job, since it looks at the cluster: a process of its own, which nothing here imports.
    ended = subprocess.run([sys.executable, "-m", "jobs.plan", *context.args], check=False)
    raise typer.Exit(ended.returncode)


@app.command()
def explain(
    store: StoreArgument,
    table: Annotated[
        str, typer.Argument(metavar="TABLE/FP", help="Directory, or the start of a fingerprint.")
    ],
) -> None:
    """Say what decided the fingerprint of a table or checkpoint, and what became of it."""
    opened = open_store(store)
    output = find_output(opened, table)
    if STAGE_FILE not in output.files:
        raise StoreError(
            f"{opened.path(output.directory)} has no {STAGE_FILE}, which says what decided it: "
            "submit the job again."
        )
    key = opened.read_json(f"{output.directory}/{STAGE_FILE}")
    places = {other.directory.rpartition("/")[2]: other.directory for other in outputs(opened)}
    key["inputs"] = {
        name: f"{value} ({places[value]})" if value in places else value
        for name, value in key.get("inputs", {}).items()
    }
    typer.echo(f"{output.directory}\n")
    typer.echo(_yaml({"decided by": key}))
    typer.echo(_yaml({"used by": list(output.used_by) or "no run"}))
    typer.echo(_yaml({"finished": list(output.manifests) or "not yet"}))


@app.command()
def diff(
    store: StoreArgument,
    first: Annotated[str, typer.Argument(metavar="RUN_A")],
    second: Annotated[str, typer.Argument(metavar="RUN_B")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=as_path,
            help="Also write a page with the most changed images, such as diff.html.",
        ),
    ] = None,
) -> None:
    """Show the settings, stages, versions, figures and labels in which two runs differ."""
    from dcsp.inspection.changed import changes_text, count_changes, versions

    opened = open_store(store)
    left, right = find_run(opened, first), find_run(opened, second)
    ids = (left.run_id, right.run_id)
    found = run_differences(left, right, (versions(opened, left), versions(opened, right)))
    typer.echo(difference_text(found, ids))
    try:
        changed = count_changes(opened, *ids)
    except StoreError as error:
        if out is not None:
            raise
        typer.echo(f"labels: not compared: {error}")
        return
    typer.echo(changes_text(changed))
    if out is not None:
        from dcsp.report.changes import TwoRuns, build_changes_page, changed_images

        work, total = changed
        images = changed_images(opened, work, total.most)
        page = TwoRuns(ids, opened.url, work.classes, total, images, found)
        write(out, build_changes_page(page).encode())
        typer.echo(str(out))


@app.command()
def history(store: StoreArgument) -> None:
    """List what was published when and by what, what was held back and why, and what is current."""
    from dcsp.run.history import read_history

    opened = open_store(store)
    typer.echo(history_text(read_history(opened), {run.run_id for run in runs(opened)}))


@app.command()
def verify(store: StoreArgument) -> None:
    """Read every part and check it: readable, aligned, counted, and nothing left half written."""
    from dcsp.inspection.verify import parts_to_read, verify_store
    from dcsp.progress import Progress

    opened = open_store(store)
    with Progress("verify", parts_to_read(opened), unit="parts") as progress:
        found = verify_store(opened, on_part=lambda: progress.advance(1))
    for line in (*found.problems, *found.notes):
        typer.echo(shown(line))
    read = f"{found.parts} parts with {found.rows} rows and {found.checkpoints} checkpoints"
    if found.problems:
        typer.echo(f"{len(found.problems)} problem(s) in {read}", err=True)
        raise typer.Exit(1)
    typer.echo(f"the store is whole: {read}")


@app.command()
def report(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=as_path,
            help="Also copy the page to this file, such as report.html.",
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Write the page anew from the tables.")
    ] = False,
) -> None:
    """Print where the report of a run is; write it where it is missing."""
    opened = open_store(store)
    chosen = find_run(opened, run)
    if chosen.metrics is None:
        raise StoreError(f"The run {chosen.run_id} has not ended: submit its job again.")
    name = report_file(chosen.run_id)
    if rebuild or not opened.exists(name):
        from dcsp.report.collect import write_report
        from dcsp.run.record import load_run

        write_report(opened, load_run(opened, chosen.run_id)[1])
    if out is not None:
        write(out, opened.read_bytes(name))
    typer.echo(str(out) if out is not None else opened.path(name))


@app.command()
def rejected(
    store: StoreArgument,
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Left out: of the latest ingest."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=as_path, help="Also write every row to this CSV file."),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Let the next ingest read anew what it could not.")
    ] = False,
) -> None:
    """List what the latest ingest, or that of a run, refused, by reason, and unknown tags."""
    from dcsp.inspection.rejections import (
        as_csv,
        by_reason,
        forget,
        read_rejected,
        read_unknown_tags,
    )

    opened = open_store(store)
    if replay:
        with held(opened, "dcsp rejected", "--replay"):
            forgotten = forget(opened)
        typer.echo(f"the next ingest looks at {forgotten} images once more: submit the job")
    rows = read_rejected(opened, run)
    reasons = [(r.reason, r.stage, str(r.rows), r.example) for r in by_reason(rows)]
    typer.echo(section("rejected", ("reason", "stage", "rows", "first"), reasons, "<<><"))
    unknown = islice(read_unknown_tags(opened, run).items(), _MOST_TAGS)
    tags = [(tag, str(images)) for tag, images in unknown]
    typer.echo(section("tags without a class", ("tag", "images"), tags, "<>"))
    if out is not None:
        write(out, as_csv(rows).encode())


def _yaml(value: Any) -> str:
    told = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return "\n".join(map(shown, told.split("\n")))
