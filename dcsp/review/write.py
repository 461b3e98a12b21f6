"""A folder of images to correct, with their labels as Label Studio, CVAT and people want them."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from dcsp.corrections import cvat, label_studio
from dcsp.corrections.drawn import BACKGROUND_NAME, IGNORED_NAME
from dcsp.corrections.png import CLASSES_FILE, classes_text
from dcsp.errors import StoreError
from dcsp.images.decode import decode_rgb
from dcsp.inspection.inventory import Run
from dcsp.inspection.mask_files import MaskFolder
from dcsp.labels import IGNORE, voc_palette
from dcsp.review.pick import Picked, directory_of
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file

_SHOWN = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
"""Formats that browsers show → suffix; others are written as PNG."""
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
    names = {**dict(enumerate(classes, start=1)), IGNORE: IGNORED_NAME}
    tasks: list[Any] = []
    frames: list[str] = []
    unnamed = 0
    labels = directory_of(run, Role.PREDICTIONS)
    assert labels is not None, "what is trusted is a prediction"
    try:
        drawable = [BACKGROUND_NAME, *names.values()]
        photographs, masks = MaskFolder(out / "images"), MaskFolder(out / "labels")
        _write_lists(out, drawable, run.run_id)
        for part, group in groupby(sorted(picked, key=lambda p: p.part.name), lambda p: p.part):
            columns = ["image_id", "bytes", "height", "width"]
            images = store.read_table(part_file(CORPUS_DIRECTORY, part.name), columns)
            rows = pc.index_in(pa.array([p.image_id for p in group]), images["image_id"])
            images = images.take(rows)
            drawn = store.read_table(part_file(labels, part.name), ["label"]).take(rows)
            pngs: list[Any] = drawn["label"].to_pylist()
            for row, png in zip(images.to_pylist(), pngs, strict=True):
                data, suffix = _shown(row)
                file = f"{row['image_id']}.{suffix}"
                # The image first: a label without one would be taken for a correction.
                if photographs.write(row["image_id"], data, suffix) or masks.write(
                    row["image_id"], png
                ):
                    unnamed += 1
                    continue
                label = decode_labels(png)
                tasks.append(label_studio.task(row["image_id"], f"images/{file}", label, names))
                frames.append(cvat.image(len(frames), file, label, names))
        (out / "label-studio.json").write_text(json.dumps(tasks), encoding="utf-8")
        text = "".join([cvat.head(drawable), *frames, cvat.FOOT])
        (out / "cvat.xml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"Cannot write {out} ({error}): check the path.") from error
    return Reviewed(len(tasks), unnamed)


def _write_lists(out: Path, names: Sequence[str], run_id: str) -> None:
    """What can be drawn, for each tool, and how to go on."""
    colours = _visible(voc_palette()[[*range(len(names) - 1), IGNORE]])
    (out / "labels" / CLASSES_FILE).write_text(classes_text(names[:-1]), encoding="utf-8")
    config = label_studio.config(names, colours)
    (out / "label-studio.xml").write_text(config, encoding="utf-8")
    told: list[dict[str, Any]] = [
        {"name": name, "color": f"#{bytes(colour.tolist()).hex()}", "attributes": []}
        for name, colour in zip(names, colours, strict=True)
    ]
    (out / "cvat-labels.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    place = out.absolute()
    how = _HOW.format(run=run_id, out=place, quoted=shlex.quote(str(place)))
    (out / "README.txt").write_text(how, encoding="utf-8")


def _visible(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Black is the colour of the background in a palette, and of nothing that can be seen."""
    black = ~colours.any(axis=1, keepdims=True)
    return np.where(black, np.uint8(128), colours).astype(np.uint8)


def _shown(row: dict[str, Any]) -> tuple[bytes, str]:
    """An image as it was ingested, or as PNG where browsers do not show it; and its suffix."""
    with Image.open(io.BytesIO(row["bytes"])) as opened:
        suffix = _SHOWN.get(opened.format or "")
    if suffix is not None:
        return row["bytes"], suffix
    made = io.BytesIO()
    Image.fromarray(decode_rgb(row["bytes"], row["height"] * row["width"])).save(made, "PNG")
    return made.getvalue(), "png"
