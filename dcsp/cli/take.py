"""Commands that take results out of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsp.cli.base import RunArgument, StoreArgument, app, as_path
from dcsp.inspection.inventory import find_run, open_store
from dcsp.store.store import Store


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=as_path, help="Folder for the PNG files.")
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
