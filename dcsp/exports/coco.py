"""COCO: instances by run lengths or polygons, and the PNGs of its panoptic task.

Labels tell classes and no objects: an image has one annotation of each class that it shows, with
all of its pixels. Background and 255 have none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcsp.corrections.runs import to_runs
from dcsp.exports.base import Format, Record, Records, Row, colour_of, json_list
from dcsp.exports.place import Place
from dcsp.exports.shapes import outlines

_IDS = 256  # more than an image has annotations


class Coco(Format):
    """``annotations/instances_SPLIT.json`` with run lengths, exact, and ``images/SPLIT``."""

    kind = "instances"

    def write(self, row: Row, place: Place) -> Record:
        """The image; its annotations go into the document."""
        annotations = [self._annotation(row, id_) for id_ in row.shown(self.names)]
        return {"image": _image(row, place), "annotations": list(map(json.dumps, annotations))}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """The JSON of each split."""
        return {
            f"annotations/{self.kind}_{split}.json": self._document([split], records)
            for split in splits
        }

    def segmentation(self, mask: NDArray[np.bool_]) -> Any:
        """A mask (HW bool) as COCO's run lengths: column after column, not compressed."""
        return {"size": list(mask.shape), "counts": to_runs(mask.ravel(order="F"))}

    def _annotation(self, row: Row, id_: int) -> dict[str, Any]:
        mask = row.label == id_
        return {
            "id": row.number * _IDS + id_,
            "image_id": row.number,
            "category_id": id_,
            "segmentation": self.segmentation(mask),
            **_extent(mask),
        }

    def _document(self, splits: Sequence[str], records: Records) -> Iterator[str]:
        yield '{"info": {"description": "Labels made by dcsp"},\n"licenses": [],\n"categories": '
        yield from json_list(json.dumps(category) for category in self._categories())
        yield ',\n"images": '
        yield from json_list(record["image"] for record in records(splits))
        yield ',\n"annotations": '
        yield from json_list(text for record in records(splits) for text in record["annotations"])
        yield "}\n"

    def _categories(self) -> Iterator[dict[str, Any]]:
        for id_, name in self.names.items():
            yield {"id": id_, "name": name, "supercategory": name, "color": colour_of(id_)}


class CocoPolygons(Coco):
    """The same with polygons along the edges of pixels: one for each region, holes cut open."""

    def segmentation(self, mask: NDArray[np.bool_]) -> Any:
        """A mask (HW bool) as one list of x and y, in turn, a region."""
        return [ring[:, :2].ravel().tolist() for ring in outlines(mask)]


class CocoPanoptic(Coco):
    """``annotations/panoptic_SPLIT.json`` and a PNG an image beside it; all classes are stuff."""

    kind = "panoptic"

    def write(self, row: Row, place: Place) -> Record:
        """The image, and the PNG whose colour is the id of a segment: here that of its class."""
        told, ids = _image(row, place), row.shown(self.names)
        coloured = np.zeros((*row.label.shape, 3), np.uint8)  # R + 256 G + 65,536 B; 0: nothing
        coloured[:, :, 0] = np.where(np.isin(row.label, ids), row.label, 0)
        made = io.BytesIO()
        Image.fromarray(coloured).save(made, "PNG", compress_level=1)
        place.write(f"annotations/panoptic_{row.split}", row.image_id, made.getvalue())
        segments = [{"id": id_, "category_id": id_, **_extent(row.label == id_)} for id_ in ids]
        annotation = {
            "image_id": row.number,
            "file_name": f"{row.image_id}.png",
            "segments_info": segments,
        }
        return {"image": told, "annotations": [json.dumps(annotation)]}

    def _categories(self) -> Iterator[dict[str, Any]]:
        return ({**category, "isthing": 0} for category in super()._categories())


def _image(row: Row, place: Place) -> str:
    """Write an image; returns what documents tell of it."""
    data, suffix = row.image
    place.write(f"images/{row.split}", row.image_id, data, suffix)
    height, width = row.label.shape
    file = f"{row.image_id}.{suffix}"
    return json.dumps({"id": row.number, "file_name": file, "height": height, "width": width})


def _extent(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Area and box of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"area": int(mask.sum()), "bbox": box, "iscrowd": 0}
