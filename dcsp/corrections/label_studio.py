"""Label Studio: tasks with our labels as predictions; brushes and polygons that it gives back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlparse
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from dcsp.corrections.drawn import Drawn, Mask, Region, Size, later, of_regions, polygon
from dcsp.corrections.runs import from_brush, to_brush

_SHAPES = ("brushlabels", "polygonlabels")
_OF_IMAGES = {
    "choices", "datetime", "number", "pairwise", "ranker", "rating", "taxonomy", "textarea",
}  # fmt: skip
"""Results that say something beside shapes."""


def of_label_studio(content: Any) -> Iterator[Drawn]:
    """The images that somebody has annotated, each by its last annotation.

    An annotation without any result is all background; predictions are nobody's.

    Args:
        content: Of the exported JSON file: a list of tasks.

    Raises:
        ValueError: It is none; KeyError and TypeError say the same.
    """
    for task in content:
        annotations = [a for a in task["annotations"] if not a.get("was_cancelled")]
        if annotations:
            yield _drawn(_image(task["data"]), annotations[-1]["result"])


def _drawn(image: str, results: Sequence[Mapping[str, Any]]) -> Drawn:
    told = [result for result in results if "value" in result]
    # Where nothing but choices was made nobody drew that all is background: an error row.
    shapes = [result for result in told if result.get("type") not in _OF_IMAGES] or told
    sizes = [(s.get("original_height"), s.get("original_width")) for s in shapes]
    size: Any = next((size for size in sizes if None not in size), None)
    return of_regions(image, size, [Region(_name(s), later(_shape, s)) for s in shapes])


def _name(shape: Mapping[str, Any]) -> str:
    return str(next(iter(shape["value"].get(shape.get("type"), ())), ""))


def _shape(shape: Mapping[str, Any]) -> Mask:
    kind, value = shape["type"], shape["value"]
    if kind not in _SHAPES:
        raise ValueError(f"a shape of the type {kind!r}, where brushes and polygons are read")

    def mask(size: Size) -> NDArray[np.bool_]:
        if kind == "polygonlabels":
            share = np.array(value["points"], np.float64) / 100
            return polygon(share * size[::-1])(size)
        return from_brush(value["rle"], size[0] * size[1]).reshape(size)

    return mask


def _image(data: Mapping[str, Any]) -> str:
    """Id of the image of a task: as we wrote it, else the name of the file that it shows."""
    if told := data.get("image_id"):
        return str(told)
    address = urlparse(str(data["image"]))
    path = unquote(address.query.partition("d=")[2] or address.path)
    return re.sub(r"^/data/upload/\d+/[0-9a-f]{8}-", "", path)


def config(names: Sequence[str], colours: NDArray[np.uint8]) -> str:
    """The labelling interface: a brush for each name.

    Args:
        names: What can be drawn.
        colours: (n, 3) uint8 RGB, one a name.
    """
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(colour.tolist()).hex()}"/>\n'
        for name, colour in zip(names, colours, strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )


def task(image_id: str, file: str, label: NDArray[np.uint8], names: Mapping[int, str]) -> Any:
    """A task whose prediction is our label.

    Args:
        image_id: Of the image.
        file: Its file below the folder that Label Studio serves.
        label: HW uint8.
        names: What to draw: id → name.
    """
    height, width = label.shape
    shown = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
    results = [
        {
            "id": f"region{id_}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": to_brush(label == id_),
                "brushlabels": [names[id_]],
            },
        }
        for id_ in shown
        if id_ in names
    ]
    return {
        "data": {"image": f"/data/local-files/?d={quote(file)}", "image_id": image_id},
        "predictions": [{"model_version": "dcsp", "result": results}],
    }
