"""The formats by the names that ``dcsp export --format`` takes."""

from __future__ import annotations

from collections.abc import Mapping

from dcsp.exports.base import Format
from dcsp.exports.coco import Coco, CocoPanoptic, CocoPolygons
from dcsp.exports.editors import Cvat, LabelStudio
from dcsp.exports.folders import FiftyOne, Folder, Voc
from dcsp.exports.hugging_face import HuggingFace
from dcsp.exports.yolo import Yolo

FORMATS: Mapping[str, type[Format]] = {
    "voc": Voc,
    "coco": Coco,
    "coco-polygons": CocoPolygons,
    "coco-panoptic": CocoPanoptic,
    "yolo": Yolo,
    "label-studio": LabelStudio,
    "cvat": Cvat,
    "hf": HuggingFace,
    "fiftyone": FiftyOne,
    "folder": Folder,
}
"""Name → format."""
