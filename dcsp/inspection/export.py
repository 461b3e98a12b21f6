"""Label maps as files: PNGs with the VOC palette, named after their images.

The PNG bytes of the table are written as they are, so that a file decodes to exactly the table's
labels. No file is ever written outside the folder that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run
from dcsp.inspection.mask_files import MaskFolder
from dcsp.labels import BACKGROUND, IGNORE, hide_labels
from dcsp.stages.parts import live_rows, stage_version
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import OK, RULES_SINCE
from dcsp.tables.snapshot import TRAIN, Snapshot


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        written: Masks written.
        left_out: Rows without a label: images that failed or were skipped.
        unnamed: Masks that no file can be named after.
        example: One of them and why, for a message.
    """

    written: int
    left_out: int
    unnamed: int = 0
    example: str = ""

    @property
    def told(self) -> str:
        """A sentence on masks without a file; empty where each has one."""
        if not self.unnamed:
            return ""
        which = "1 mask has" if self.unnamed == 1 else f"{self.unnamed} masks have"
        return (
            f"{which} no file, such as that of {self.example}: its labels are in the table; "
            "rename the image and ingest again to have them as a file"
        )


def read_labels(store: Store, run: Run, kind: str) -> Iterator[pa.Table]:
    """Labels that a run made, one part at a time, dead rows left out.

    Args:
        store: The store.
        run: One of its runs.
        kind: ``published``; ``network``: its own, without tags; ``cues``: those of the last phase.

    Returns:
        Tables with ``image_id``, ``status`` and ``label``.

    Raises:
        StoreError: The run has no such labels, or its snapshot cannot be read.
    """
    role, splits = "predictions", run.record["config"]["predict"]["splits"]
    columns: tuple[str, ...] = ("label",)
    if kind == "cues":
        role, splits = "cues", [TRAIN]
    elif kind == "network":
        columns = ("label_network", "label_without_crf")
    directories = [
        step["directory"]
        for step in run.record.get("steps", ())
        if step.get("role", _role(step["title"])) == role
    ]
    if not directories:
        raise StoreError(f"The run {run.run_id} has no {role}: submit its job again.")
    if kind == "network" and stage_version(store, directories[-1]) < RULES_SINCE:
        columns = ("label",)
    snapshot = Snapshot.load(store, run.record["snapshot"])
    parts = (
        _labels(store, part_file(directories[-1], part.name), columns, part.dead)
        for part in snapshot.of(splits)
    )
    corpus = run.record["config"]["corpus"]
    if kind != "cues" or not corpus.get("distractors"):
        return parts
    value = BACKGROUND if corpus["distractors_are"] == "background" else IGNORE
    return (_hidden(part, len(corpus["classes"]), value) for part in parts)


def _hidden(part: pa.Table, classes: int, value: int) -> pa.Table:
    """Cues without distractors, which their tables hold for the network to learn."""
    labels = (
        data and encode_labels(hide_labels(decode_labels(data), classes, value))
        for data in part["label"].to_pylist()
    )
    return part.drop_columns("label").append_column("label", pa.array(labels, pa.binary()))


def _role(title: str) -> str:
    """Role of a step of an old run, which tells titles alone."""
    return "cues" if title.startswith("cues_phase") else title


def _labels(store: Store, name: str, columns: Sequence[str], dead: Sequence[int]) -> pa.Table:
    table = live_rows(store.read_table(name, ["image_id", "status", *columns]), dead)
    label = pc.coalesce(*(table[column] for column in columns))
    return table.select(["image_id", "status"]).append_column("label", label)


def export_masks(labels: Iterable[pa.Table], out: Path) -> Exported:
    """Write labels as PNG files.

    Args:
        labels: Parts with ``image_id``, ``status`` and ``label``, read one at a time.
        out: Folder to write to; made where it does not exist. An id with slashes gets subfolders.

    Returns:
        How many rows were written, left out, and cannot be files.

    Raises:
        StoreError: The folder cannot be written to, or a link in it leads outside.
    """
    written = left_out = unnamed = 0
    example = ""
    folder = MaskFolder(out)
    for part in labels:
        cells = zip(part["image_id"].to_pylist(), part["status"].to_pylist(), strict=True)
        for row, (image_id, status) in enumerate(cells):
            data = part["label"][row].as_py() if status == OK else None
            if data is None:
                left_out += 1
            elif reason := folder.write(str(image_id), data):
                unnamed += 1
                example = example or f"{image_id!r} ({reason})"
            else:
                written += 1
    return Exported(written, left_out, unnamed, example)
