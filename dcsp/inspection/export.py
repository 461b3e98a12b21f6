"""Predicted label maps as files: PNGs with the VOC palette, named after their images.

The PNG bytes of the table are written as they are, so that a file decodes to exactly the table's
labels. No file is ever written outside the folder that was asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import Snapshot


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        written: Masks written.
        left_out: Rows without a label: images that failed or were skipped.
    """

    written: int
    left_out: int


def read_predictions(store: Store, run: Run, column: str) -> Iterator[pa.Table]:
    """The predictions of a run, one part at a time, dead rows left out.

    Args:
        store: The store.
        run: One of its runs.
        column: Of the labels.

    Raises:
        StoreError: The run has no predictions, or its snapshot cannot be read.
    """
    directories = [
        step["directory"]
        for step in run.record.get("steps", ())
        if step.get("role", step["title"]) == "predictions"  # runs of old tell titles alone
    ]
    if not directories:
        raise StoreError(f"The run {run.run_id} has no predictions: submit its job again.")
    snapshot = Snapshot.load(store, run.record["snapshot"])
    return (
        live_rows(
            store.read_table(part_file(directories[0], part.name), ["image_id", "status", column]),
            part.dead,
        )
        for part in snapshot.of(run.record["config"]["predict"]["splits"])
    )


def export_masks(predictions: Iterable[pa.Table], out: Path, column: str = "label") -> Exported:
    """Write the labels of predictions tables as PNG files.

    Args:
        predictions: Parts with ``image_id``, ``status`` and the label column, read one at a time.
        out: Folder to write to; made where it does not exist. An id with slashes gets subfolders.
        column: Column of the labels; ``label_without_crf`` for those before the CRF.

    Returns:
        How many rows were written and left out.

    Raises:
        StoreError: An id leads outside ``out``, or a file cannot be written.
    """
    written = left_out = 0
    for part in predictions:
        cells = zip(part["image_id"].to_pylist(), part["status"].to_pylist(), strict=True)
        labels = part[column]
        for row, (image_id, status) in enumerate(cells):
            data = labels[row].as_py() if status == OK else None
            if data is None:
                left_out += 1
                continue
            _write(mask_path(out, str(image_id)), data)
            written += 1
    return Exported(written, left_out)


def mask_path(out: Path, image_id: str) -> Path:
    """File of an image's mask below ``out``.

    Raises:
        StoreError: The id is empty, absolute, or leads outside ``out``, be it by a link.
    """
    parts = PurePosixPath(image_id).parts
    strange = not parts or image_id.startswith("/") or ".." in parts
    if strange or "\\" in image_id or "\0" in image_id:
        raise StoreError(
            f"The image id {image_id!r} is no relative path, so no mask can be named after it: "
            "rename the image and ingest again."
        )
    path = out.joinpath(*parts[:-1], f"{parts[-1]}.png")
    if not path.parent.resolve().is_relative_to(out.resolve()):
        raise StoreError(
            f"A link in {out} leads the mask of {image_id!r} outside: remove the link."
        )
    return path


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"Cannot write the mask {path} ({error}): check the folder, its permissions and the "
            "free space."
        ) from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)
