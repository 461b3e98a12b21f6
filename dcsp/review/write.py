"""A folder of images to correct, with their labels as Label Studio, CVAT and people want them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corrections import cvat, label_studio
from dcsp.corrections.drawn import BACKGROUND_NAME
from dcsp.corrections.png import CLASSES_FILE, classes_text
from dcsp.errors import StoreError
from dcsp.exports.editors import cvat_head, cvat_labels, drawn_ids, interface
from dcsp.exports.images import upright
from dcsp.inspection.inventory import Run, directory_of
from dcsp.inspection.mask_files import MaskFolder
from dcsp.review.pick import Picked
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file

_HOW = """Images to correct of the run {run}, with its labels as a start.

Label Studio: start it with
  LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={quoted}
create a project, paste label-studio.xml as its labelling interface, add {out}/images as local
storage without synchronising it, and import label-studio.json. Export as JSON. Tasks that nobody
submitted are not taken.

CVAT: create a task with the labels of cvat-labels.json (Raw) and the files of images/, then upload
cvat.xml as annotations of the format “CVAT 1.1”. Export as “CVAT for images 1.1”. Delete the shapes
of images that nobody looked at: whatever has a shape is taken as corrected.

Any editor: labels/ has palette PNG files of the ids in labels/classes.txt, 255 where nothing is
said. Keep those that you have corrected, with classes.txt, in a folder of their own.

What no shape covers is background; an image that is all background needs a shape of it. Then name
what came of it in the config, corrections: [FILE or FOLDER, …], and submit the job again.
"""


class Reviewed(NamedTuple):
    """What was written: how many images, and how many have no file of their name."""

    written: int
    unnamed: int


def write_review(store: Store, run: Run, picked: Sequence[Picked], out: Path) -> Reviewed:
    """Write images and labels.

    Args:
        store: The store.
        run: Whose labels they are.
        picked: The images.
        out: A folder that is there.

    Raises:
        StoreError: A table cannot be read or a file not be written.
    """
    classes: list[str] = run.record["config"]["corpus"]["classes"]
    names = dict(enumerate(classes, start=1))
    drawn = drawn_ids(names)
    tasks: list[Any] = []
    frames: list[str] = []
    unnamed = 0
    labels = directory_of(run, Role.PREDICTIONS)
    assert labels is not None, "what is trusted is a prediction"
    try:
        photographs, masks = MaskFolder(out / "images"), MaskFolder(out / "labels")
        _write_lists(out, names, run.run_id)
        for part, group in groupby(sorted(picked, key=lambda p: p.part.name), lambda p: p.part):
            columns = ["image_id", "bytes"]
            images = store.read_table(part_file(CORPUS_DIRECTORY, part.name), columns)
            rows = pc.index_in(pa.array([p.image_id for p in group]), images["image_id"])
            images = images.take(rows)
            labelled = store.read_table(part_file(labels, part.name), ["label"]).take(rows)
            pngs: list[Any] = labelled["label"].to_pylist()
            for row, png in zip(images.to_pylist(), pngs, strict=True):
                data, suffix = upright(row["bytes"])
                file = f"{row['image_id']}.{suffix}"
                # The image first: a label without one would be taken for a correction.
                if photographs.write(row["image_id"], data, suffix) or masks.write(
                    row["image_id"], png
                ):
                    unnamed += 1
                    continue
                label = decode_labels(png)
                tasks.append(label_studio.task(row["image_id"], f"images/{file}", label, drawn))
                frames.append(cvat.image(len(frames), file, label, drawn))
        (out / "label-studio.json").write_text(json.dumps(tasks), encoding="utf-8")
        text = "".join([cvat_head(names), *frames, cvat.FOOT])
        (out / "cvat.xml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"Cannot write {out} ({error}): check the path.") from error
    return Reviewed(len(tasks), unnamed)


def _write_lists(out: Path, names: Mapping[int, str], run_id: str) -> None:
    """What can be drawn, for each tool, and how to go on."""
    listed = classes_text([BACKGROUND_NAME, *names.values()])
    (out / "labels" / CLASSES_FILE).write_text(listed, encoding="utf-8")
    (out / "label-studio.xml").write_text(interface(names), encoding="utf-8")
    (out / "cvat-labels.json").write_text(cvat_labels(names), encoding="utf-8")
    place = out.absolute()
    how = _HOW.format(run=run_id, out=place, quoted=shlex.quote(str(place)))
    (out / "README.txt").write_text(how, encoding="utf-8")
