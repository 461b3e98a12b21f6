"""Commands that take results out of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsp.cli.base import RunArgument, StoreArgument, app, as_path
from dcsp.errors import ConfigError
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


@app.command()
def review(
    store: StoreArgument,
    budget: Annotated[int, typer.Option(min=1, help="How many images to correct.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=as_path, help="A new folder to write to.")
    ],
    run: RunArgument = None,
    random: Annotated[
        int | None, typer.Option(metavar="SEED", min=0, help="Pick at random, by this seed.")
    ] = None,
) -> None:
    """Write the images whose correction helps most, and their labels, for Label Studio and CVAT."""
    from dcsp.inspection.destination import REVIEW, claim_folder, mark_folder
    from dcsp.review.pick import pick
    from dcsp.review.write import write_review

    opened = open_store(store)
    found = find_run(opened, run)
    picked = pick(opened, found, budget, random)
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"--out {out} holds files, which may be somebody's corrections: name a new folder."
        )
    apart = {"STORE": opened}
    if root := found.record["config"]["corpus"]["root"]:
        apart["the corpus"] = Store(root)
    folder = claim_folder(REVIEW, out, apart)
    mark_folder(REVIEW, folder, {"run": found.run_id, "budget": budget, "random": random})
    done = write_review(opened, found, picked, out)
    left = f", {done.unnamed} cannot be files" if done.unnamed else ""
    typer.echo(f"{done.written} images to correct in {out}{left}: README.txt there says how")
