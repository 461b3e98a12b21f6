"""Commands that look into a store and leave it as it is, but for ``rejected --replay``."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from dcsp.cli.base import AsJson, RunArgument, StoreArgument, app, as_path, held, put_json, write
from dcsp.errors import ConfigError, StoreError
from dcsp.inspection.images import find_image
from dcsp.inspection.inventory import (
    Run,
    find_output,
    find_run,
    open_store,
    outputs,
    read_run,
    runs,
)
from dcsp.inspection.text import (
    difference_rows,
    difference_text,
    history_text,
    run_differences,
    section,
    store_text,
)
from dcsp.store.store import Store
from dcsp.tables.layout import STAGE_FILE, current_run, report_file
from dcsp.text import shown

_MOST_TAGS = 50
"""Unknown tags shown; the store keeps more."""


@app.command()
def show(store: StoreArgument, as_json: AsJson = False) -> None:
    """List the runs, the tables with their rows by status, and the checkpoints."""
    opened = open_store(store)
    known, found = runs(opened), outputs(opened)
    if as_json:
        told = [{**asdict(one), "parts": one.parts, "bytes": one.bytes} for one in found]
        put_json({"runs": known, "outputs": told})
    else:
        typer.echo(store_text(known, found))


@app.command()
def explain(
    store: StoreArgument,
    what: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|TABLE/FP",
            help="Id of an image; or directory of a table or checkpoint, or the start of its "
            "fingerprint.",
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Of an image; left out: the published run."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            parser=as_path,
            help="Of an image: draw its sheet as FILE.html, FILE.png, or both into a folder.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run made of an image, step by step; or what decided a table or checkpoint.

    An image of exactly this id goes first; a table can always be named as TABLE/FINGERPRINT. With
    --run or --out an image is meant, whatever its id looks like.
    """
    opened = open_store(store)
    if run is None and out is None and (reason := _why_no_image(opened, what)) is not None:
        try:
            _explain_output(opened, what, as_json)
        except StoreError as error:
            raise StoreError(f"{reason} {error}".strip()) from error
    else:
        _explain_image(opened, find_run(opened, run), what, out, as_json)


def _why_no_image(store: Store, what: str) -> str | None:
    """Why no image of the published run is meant; None where one is."""
    home, slash, _ = what.partition("/")
    published = current_run(store)
    run = read_run(store, published) if published else None
    if run is None or (slash and home in store.list("")):
        return ""
    try:
        find_image(store, run, what)
    except StoreError as error:
        return str(error)
    return None


def _explain_image(store: Store, run: Run, image_id: str, out: Path | None, as_json: bool) -> None:
    from dcsp.report.sheet import read_sheet
    from dcsp.report.sheet_page import build_sheet_page, draw_sheet, sheet_document, sheet_lines

    place = find_image(store, run, image_id)
    if out is not None and out.suffix not in ("", ".html", ".png"):
        raise ConfigError(f"--out {out} is neither .html nor .png nor a folder.")
    sheet = read_sheet(store, run.record, *place)
    if as_json:
        put_json(sheet_document(sheet))
    elif out is None:
        typer.echo("\n".join(sheet_lines(sheet)))
    if out is None:
        return
    name = image_id.replace("/", "_")
    files = [out] if out.suffix else [out / f"{name}.html", out / f"{name}.png"]
    for file in files:
        is_page = file.suffix == ".html"
        write(file, build_sheet_page(sheet).encode() if is_page else draw_sheet(sheet))
        if not as_json:
            typer.echo(str(file))


def _explain_output(store: Store, name: str, as_json: bool) -> None:
    output = find_output(store, name)
    if STAGE_FILE not in output.files:
        raise StoreError(
            f"{store.path(output.directory)} has no {STAGE_FILE}, which says what decided it: "
            "submit the job again."
        )
    key = store.read_json(f"{output.directory}/{STAGE_FILE}")
    places = {other.directory.rpartition("/")[2]: other.directory for other in outputs(store)}
    key["inputs"] = {
        name: f"{value} ({places[value]})" if value in places else value
        for name, value in key.get("inputs", {}).items()
    }
    users, finished = list(output.used_by), list(output.manifests)
    if as_json:
        told = {"decided_by": key, "used_by": users, "finished": finished}
        put_json({"directory": output.directory, **told})
        return
    typer.echo(f"{output.directory}\n")
    typer.echo(_yaml({"decided by": key}))
    typer.echo(_yaml({"used by": users or "no run"}))
    typer.echo(_yaml({"finished": finished or "not yet"}))


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
    as_json: AsJson = False,
) -> None:
    """Show the settings, stages, versions, figures and labels in which two runs differ."""
    from dcsp.evaluation.changes import against
    from dcsp.inspection.changed import changes_text, count_changes, versions

    opened = open_store(store)
    left, right = find_run(opened, first), find_run(opened, second)
    ids = (left.run_id, right.run_id)
    found = run_differences(left, right, (versions(opened, left), versions(opened, right)))
    if not as_json:
        typer.echo(difference_text(found, ids))
    try:
        changed = count_changes(opened, *ids)
    except StoreError as error:
        if out is not None:
            raise
        if as_json:
            put_json({**found, "labels": None, "note": str(error)})
        else:
            typer.echo(f"labels: not compared: {error}")
        return
    work, total = changed
    if as_json:
        most = [image._asdict() for image in total.most]
        put_json({**found, "labels": {**against(total, work.classes, ids[0]), "most": most}})
    else:
        typer.echo(changes_text(changed))
    if out is not None:
        from dcsp.report.changes import TwoRuns, build_changes_page
        from dcsp.report.earlier import changed_images

        images, rows = changed_images(opened, work, total.most), difference_rows(found)
        page = TwoRuns(ids, opened.url, work.classes, total, images, rows)
        write(out, build_changes_page(page).encode())
        if not as_json:
            typer.echo(str(out))


@app.command()
def history(store: StoreArgument, as_json: AsJson = False) -> None:
    """List what was published when and by what, what was held back and why, and what is current."""
    from dcsp.run.history import read_history

    opened = open_store(store)
    told = read_history(opened)
    if as_json:
        lost, gone = sorted(told.not_carried_out), sorted(told.withdrawn)
        put_json({**asdict(told), "not_carried_out": lost, "withdrawn": gone})
    else:
        typer.echo(history_text(told, {run.run_id for run in runs(opened)}))


@app.command()
def verify(store: StoreArgument, as_json: AsJson = False) -> None:
    """Read every part and check it: readable, aligned, counted, and nothing left half written."""
    from dcsp.inspection.verify import parts_to_read, verify_store
    from dcsp.progress import Progress

    opened = open_store(store)
    with Progress("verify", parts_to_read(opened), unit="parts") as progress:
        found = verify_store(opened, on_part=lambda: progress.advance(1))
    if as_json:
        put_json(found)
        raise typer.Exit(1 if found.problems else 0)
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
    as_json: AsJson = False,
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
        told = f"the next ingest looks at {forgotten} images once more: submit the job"
        typer.echo(told, err=as_json)
    rows = read_rejected(opened, run)
    reasons = by_reason(rows)
    unknown = dict(islice(read_unknown_tags(opened, run).items(), _MOST_TAGS))
    if as_json:
        put_json({"rejected": reasons, "tags_without_a_class": unknown})
    else:
        cells = [(r.reason, r.stage, str(r.rows), r.example) for r in reasons]
        typer.echo(section("rejected", ("reason", "stage", "rows", "first"), cells, "<<><"))
        tags = [(tag, str(images)) for tag, images in unknown.items()]
        typer.echo(section("tags without a class", ("tag", "images"), tags, "<>"))
    if out is not None:
        write(out, as_csv(rows).encode())


def _yaml(value: Any) -> str:
    told = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return "\n".join(map(shown, told.split("\n")))
