"""Commands that take results out of a store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsp.cli.base import RunArgument, StoreArgument, app, as_path
from dcsp.errors import ConfigError
from dcsp.inspection.inventory import find_run, open_store
from dcsp.store.store import Store
from dcsp.text import quantity

Format = Literal[
    "voc",
    "coco",
    "coco-polygons",
    "coco-panoptic",
    "yolo",
    "label-studio",
    "cvat",
    "hf",
    "fiftyone",
    "folder",
]
"""Names of :data:`dcsp.exports.registry.FORMATS`."""
Split = StrEnum("Split", ["train", "val"])


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=as_path, help="Folder for what is written.")
    ],
    run: RunArgument = None,
    format: Annotated[
        Format,
        typer.Option(
            help="voc: palette PNGs alone; all others hold the images, too (docs/exports.md)."
        ),
    ] = "voc",
    labels: Annotated[
        Literal["published", "cues", "network"],
        typer.Option(
            help="published: by tags where they are known; cues: those of the last phase; "
            "network: without any tags."
        ),
    ] = "published",
    min_trust: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out images whose label has a lower score."),
    ] = None,
    split: Annotated[
        list[Split] | None,
        typer.Option(help="A split to write, may be given twice; left out: all."),
    ] = None,
) -> None:
    """Write the labels of a run as files that other tools open."""
    from dcsp.exports.run import Export, Request
    from dcsp.inspection.destination import EXPORT, claim_folder

    opened = open_store(store)
    found = find_run(opened, run)
    made = Export(opened, found, Request(labels, format, [*map(str, split or ())], min_trust))
    apart = {"STORE": opened}
    if root := found.record["config"]["corpus"]["root"]:
        apart["the corpus"] = Store(root)
    done = made.write(claim_folder(EXPORT, out, apart), out)
    left = (
        (done.left_out, "without a label"),
        (done.untrusted, f"trusted less than {min_trust}"),
        (done.elsewhere, "of another split"),
    )
    told = "; ".join(f"{quantity(count, 'image')} {why}" for count, why in left if count)
    typer.echo(f"{done.written} masks in {out}{told and f'; left out: {told}'}")
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
