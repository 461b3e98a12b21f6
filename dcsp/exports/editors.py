"""Label Studio and CVAT: the files that ``dcsp review`` writes too, of all images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.corrections import cvat, label_studio
from dcsp.corrections.drawn import BACKGROUND_NAME, IGNORED_NAME
from dcsp.exports.base import PALETTE, Format, Record, Records, Row, json_list
from dcsp.exports.place import Place
from dcsp.labels import IGNORE


def drawn_ids(names: Mapping[int, str]) -> dict[int, str]:
    """What is drawn of a label: the classes, and what is to be ignored; id → name."""
    return {**names, IGNORE: IGNORED_NAME}


def interface(names: Mapping[int, str]) -> str:
    """Label Studio's labelling interface for some classes."""
    return label_studio.config(*_drawable(names))


def cvat_labels(names: Mapping[int, str]) -> str:
    """CVAT's “Raw” labels for some classes."""
    told: list[dict[str, Any]] = [
        {"name": name, "color": f"#{bytes(colour.tolist()).hex()}", "attributes": []}
        for name, colour in zip(*_drawable(names), strict=True)
    ]
    return json.dumps(told, indent=1)


def cvat_head(names: Mapping[int, str]) -> str:
    """What stands before the images in CVAT's XML."""
    return cvat.head(_drawable(names)[0])


def _drawable(names: Mapping[int, str]) -> tuple[list[str], NDArray[np.uint8]]:
    """Names that can be drawn, and a colour for each.

    Black is the colour of the background in a palette, and of nothing that can be seen.
    """
    ids = drawn_ids(names)
    colours = PALETTE[[0, *ids]]
    black = ~colours.any(axis=1, keepdims=True)
    seen = np.where(black, np.uint8(128), colours).astype(np.uint8)
    return [BACKGROUND_NAME, *ids.values()], seen


class LabelStudio(Format):
    """Tasks whose predictions are brushes, the labelling interface, and the images."""

    def write(self, row: Row, place: Place) -> Record:
        """The image; its task goes into ``label-studio.json``."""
        path = place.write("images", row.image_id, *row.image)
        task = label_studio.task(row.image_id, path, row.label, drawn_ids(self.names))
        return {"task": json.dumps(task)}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """The tasks of all splits, and the interface."""
        return {
            "label-studio.json": json_list(record["task"] for record in records(splits)),
            "label-studio.xml": [interface(self.names)],
        }


class Cvat(Format):
    """“CVAT for images 1.1” with masks, the labels of its task, and the images."""

    def write(self, row: Row, place: Place) -> Record:
        """The image; its masks go into ``cvat.xml``."""
        data, suffix = row.image
        place.write("images", row.image_id, data, suffix)
        file, ids = f"{row.image_id}.{suffix}", drawn_ids(self.names)
        return {"image": cvat.image(row.number - 1, file, row.label, ids)}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """The XML of all splits, and the labels."""

        def pieces() -> Iterable[str]:
            yield cvat_head(self.names)
            yield from (record["image"] for record in records(splits))
            yield cvat.FOOT

        return {"cvat.xml": pieces(), "cvat-labels.json": [cvat_labels(self.names)]}
