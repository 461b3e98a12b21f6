"""Commands that change what a store publishes or holds: each has its lease."""

from __future__ import annotations

from typing import Annotated

import typer

from dcsp.cli.base import StoreArgument, app, held
from dcsp.inspection.inventory import find_run, open_store
from dcsp.tables.layout import current_run
from dcsp.text import quantity, shown


@app.command()
def publish(
    store: StoreArgument,
    run: Annotated[str, typer.Argument(help="Id of a run that has ended, or the start of it.")],
) -> None:
    """Make a run the published one, whatever its gates say; its job may publish it again."""
    from dcsp.run.publishing import require_whole
    from dcsp.run.record import publish as make_current

    opened = open_store(store)
    chosen = find_run(opened, run)
    with held(opened, "dcsp publish", chosen.run_id) as lease:
        require_whole(opened, chosen.run_id)
        before = current_run(opened)
        lease.confirm()
        make_current(opened, chosen.run_id)
    typer.echo(_moved(chosen.run_id, before))


@app.command()
def rollback(
    store: StoreArgument,
    to: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Left out: the run that was published before."),
    ] = None,
) -> None:
    """Go back to the run that was published before; jobs do not publish what is gone back from."""
    from dcsp.run.publishing import roll_back

    opened = open_store(store)
    target = find_run(opened, to).run_id if to else None
    with held(opened, "dcsp rollback", target or "") as lease:
        before = current_run(opened)
        roll_back(opened, target, lease.confirm)
        typer.echo(_moved(current_run(opened), before))


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
        with held(opened, "dcsp gc", "--delete") as lease:
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
    with held(opened, "dcsp erase", quantity(len(ids or ()), "image")) as lease:
        done = erase_images(opened, ids or (), lease.check)
    for line in told(done, ids or ()):
        typer.echo(line)


def _moved(run: str | None, before: str | None) -> str:
    """What became of the pointer."""
    if run == before:
        return shown(f"{run} is published already")
    return shown(f"published: {run}, before that {before or 'none'}")
