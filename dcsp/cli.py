"""The ``dcsp`` command: look into a store, check it, and take results out of it.

Every command reads and none computes: jobs do that, and ``plan`` is one; ``publish`` moves the one
pointer, ``rejected --replay`` changes what the next job does, ``gc --delete`` and ``erase`` remove.
Exit codes are those of the jobs:
0 done, 2 the user's mistake, 1 a fault, or a store that ``verify`` finds broken.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from typer.core import TyperGroup

from dcsp.config.text import user_path
from dcsp.errors import DcspError, StoreError
from dcsp.inspection.inventory import find_output, find_run, open_store, outputs, runs
from dcsp.inspection.text import difference_text, section, store_text
from dcsp.progress import show_any_text
from dcsp.store.lease import Lease, interrupt
from dcsp.store.store import Store
from dcsp.tables.layout import STAGE_FILE, current_run, report_file
from dcsp.text import quantity, shown

MISTAKE = 2
_MOST_TAGS = 50
"""Unknown tags shown; the store keeps more."""


class _Group(TyperGroup):
    """Tells the user's mistakes in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        show_any_text()
        try:
            return super().invoke(ctx)
        except DcspError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(MISTAKE) from None


app = typer.Typer(
    cls=_Group,
    help="Look into a store of pixel labels, check it, and take results out of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _path(text: str) -> Path:
    return Path(user_path(text))


StoreArgument = Annotated[
    str,
    typer.Argument(metavar="STORE", parser=user_path, help="Local path or s3://bucket/prefix."),
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="Id of a run; left out: the published one.")
]


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
) -> None:
    """Show the settings, stages and figures in which two runs differ."""
    opened = open_store(store)
    typer.echo(difference_text(find_run(opened, first), find_run(opened, second)))


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
def rejected(
    store: StoreArgument,
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Left out: of the latest ingest."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=_path, help="Also write every row to this CSV file."),
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
        with _held(opened, "dcsp rejected", "--replay"):
            forgotten = forget(opened)
        typer.echo(f"the next ingest looks at {forgotten} images once more: submit the job")
    rows = read_rejected(opened, run)
    reasons = [(r.reason, r.stage, str(r.rows), r.example) for r in by_reason(rows)]
    typer.echo(section("rejected", ("reason", "stage", "rows", "first"), reasons, "<<><"))
    unknown = islice(read_unknown_tags(opened, run).items(), _MOST_TAGS)
    tags = [(tag, str(images)) for tag, images in unknown]
    typer.echo(section("tags without a class", ("tag", "images"), tags, "<>"))
    if out is not None:
        _write(out, as_csv(rows).encode())


@app.command()
def publish(
    store: StoreArgument,
    run: Annotated[str, typer.Argument(help="Id of a run that has ended, or the start of it.")],
) -> None:
    """Make a run the published one: back to an earlier one, or forward again."""
    from dcsp.run.record import publish as make_current

    opened = open_store(store)
    chosen = find_run(opened, run)
    with _held(opened, "dcsp publish", chosen.run_id):
        before = current_run(opened)
        make_current(opened, chosen.run_id)
    typer.echo(shown(f"published: {chosen.run_id}, before that {before or 'none'}"))


@app.command()
def report(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=_path,
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
        _write(out, opened.read_bytes(name))
    typer.echo(str(out) if out is not None else opened.path(name))


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=_path, help="Folder for the PNG files.")
    ],
    run: RunArgument = None,
    labels: Annotated[
        Literal["published", "cues", "network"],
        typer.Option(
            help="published: by tags where they are known; cues: those of the last phase; "
            "network: without any tags."
        ),
    ] = "published",
) -> None:
    """Write the label maps of a run as VOC-palette PNG files named after the images."""
    from dcsp.inspection.destination import EXPORT, claim_folder, mark_folder
    from dcsp.inspection.export import export_masks, read_labels

    opened = open_store(store)
    found = find_run(opened, run)
    predictions = read_labels(opened, found, labels)
    apart = {"STORE": opened}
    if root := found.record["config"]["corpus"]["root"]:
        apart["the corpus"] = Store(root)
    folder = claim_folder(EXPORT, out, apart)
    mark_folder(EXPORT, folder, {"run": found.run_id, "labels": labels})
    done = export_masks(predictions, out)
    left = f", {done.left_out} images have no label" if done.left_out else ""
    typer.echo(f"{done.written} masks in {out}{left}")
    if done.told:
        typer.echo(done.told)


@app.command()
def gc(
    store: StoreArgument,
    keep: Annotated[
        int, typer.Option(metavar="N", min=1, help="Runs to keep, beside the published one.")
    ] = 3,
    days: Annotated[
        float,
        typer.Option(metavar="D", min=0, help="What was written in the last D days stays."),
    ] = 7,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; else it is told.")] = False,
) -> None:
    """Say what no run needs that is kept, or remove it: runs, tables, networks, corpora."""
    from dcsp.upkeep.collection import collect, remove
    from dcsp.upkeep.text import collected_text, summary

    opened = open_store(store)
    if delete:
        with _held(opened, "dcsp gc", "--delete") as lease:
            collected = collect(opened, keep, days)
            remove(opened, collected, lease.check)
    else:
        collected = collect(opened, keep, days)
    typer.echo(collected_text(collected, delete))
    typer.echo(summary(collected, delete))


@app.command()
def erase(
    store: StoreArgument,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]…", help="Of images; left out: end what was killed."),
    ] = None,
) -> None:
    """Erase images and all that was made of them, and keep them out of every later ingest."""
    from dcsp.upkeep.erasure import erase as erase_images
    from dcsp.upkeep.erasure import told

    opened = open_store(store)
    with _held(opened, "dcsp erase", quantity(len(ids or ()), "image")) as lease:
        done = erase_images(opened, ids or (), lease.check)
    for line in told(done, ids or ()):
        typer.echo(line)


@contextmanager
def _held(store: Store, command: str, what: str) -> Iterator[Lease]:
    """Hold the lease of a store; a command that is told to end gives it back."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with Lease(store, command, what, on_loss=interrupt) as lease:
            try:
                yield lease
            except KeyboardInterrupt:
                lease.check()  # whether it was the user
                raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(out: Path, data: bytes) -> None:
    """Write what a command was asked to leave outside of the store."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise StoreError(f"Cannot write {out} ({error}): check the path.") from error


def _yaml(value: Any) -> str:
    told = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return "\n".join(map(shown, told.split("\n")))


if __name__ == "__main__":
    app()
