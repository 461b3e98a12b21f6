"""Label any folder of images with the published model.

    python jobs/predict.py STORE --images DIR --out DIR [--crf | --no-crf] [--run RUN]

DIR is a folder of images, at any depth, or a PASCAL VOC root (whose JPEGImages are taken); a tag
table in it is not looked at. OUT gets one PNG of class ids (VOC palette) for each image, under the
image's name; ``predictions/`` with the table; ``rejected.parquet`` with what could not be read;
``predict.json`` with the classes and the network. It must be new, empty, or an earlier OUT of this
job, whose table and masks are replaced, and lie apart from DIR and STORE. A killed job resumes when
submitted again. On several nodes, STORE, DIR and OUT must be reachable from each of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.cli.base import StoreArgument
from dcsp.config.text import user_path

from ._main import run_job
from ._options import Job
from ._places import require_lasting, require_there


def predict(
    store: StoreArgument,
    images: Annotated[
        str, typer.Option(metavar="DIR", parser=user_path, help="Folder of images to label.")
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", parser=user_path, help="Where masks are written.")
    ],
    crf: Annotated[bool | None, typer.Option(help="Left out: as trained.")] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Id of a run; left out: the published one.")
    ] = None,
) -> None:
    """Label any folder of images with the published network."""
    require_lasting("--out", out)
    require_there("STORE", store)
    require_there("--images", images)
    from ._labelling import label_folder

    label_folder(store, Path(images), Path(out), crf=crf, run_id=run)


main = Job(predict)

if __name__ == "__main__":
    run_job(main)
