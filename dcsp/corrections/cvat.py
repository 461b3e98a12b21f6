"""CVAT for images 1.1: masks and polygons by image, in XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from dcsp.corrections.drawn import Drawn, Mask, Region, Size, later, of_regions, polygon
from dcsp.corrections.runs import from_runs, to_runs

FOOT = "</annotations>\n"


def of_cvat(data: bytes) -> Iterator[Drawn]:
    """The images that have shapes; one without any says nothing.

    Args:
        data: The XML file.

    Raises:
        ValueError: It is none; ElementTree's errors, KeyError and TypeError say the same.
    """
    if any(sign in data for sign in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):  # in UTF-16, too
        raise ValueError("it declares a document type, which CVAT does not")
    root = ElementTree.fromstring(data)
    if root.tag != "annotations":
        raise ValueError(f"its root is {root.tag}")
    for image in root.iter("image"):
        shapes = [shape for shape in image if shape.tag != "tag"]
        shapes.sort(key=lambda shape: int(shape.get("z_order", 0)))
        if shapes:
            size = (int(image.attrib["height"]), int(image.attrib["width"]))
            yield of_regions(image.attrib["name"], size, list(map(_region, shapes)))


def _region(shape: ElementTree.Element) -> Region:
    return Region(shape.attrib["label"], later(_shape, shape))


def _shape(shape: ElementTree.Element) -> Mask:
    read: Mapping[str, Callable[[Mapping[str, str]], Mask]] = {"mask": _mask, "polygon": _polygon}
    if shape.tag not in read:
        raise ValueError(f"a shape of the type {shape.tag!r}, where masks and polygons are read")
    return read[shape.tag](shape.attrib)


def _polygon(told: Mapping[str, str]) -> Mask:
    corners = [corner.split(",") for corner in told["points"].split(";")]
    return polygon(np.array(corners, np.float64))


def _mask(told: Mapping[str, str]) -> Mask:
    left, top, width, height = (int(told[name]) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in told["rle"].split(",")]

    def mask(size: Size) -> NDArray[np.bool_]:
        if min(left, top) < 0 or top + height > size[0] or left + width > size[1]:
            raise ValueError("a mask beyond the edge of its image")
        found = np.zeros(size, bool)
        window = from_runs(runs, height * width).reshape(height, width)
        found[top : top + height, left : left + width] = window
        return found

    return mask


def head(names: Sequence[str]) -> str:
    """What stands before the images.

    Args:
        names: What can be drawn.
    """
    labels = "".join(f"        <label><name>{escape(name)}</name></label>\n" for name in names)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta>\n    <task>\n      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


def image(number: int, name: str, label: NDArray[np.uint8], names: Mapping[int, str]) -> str:
    """One image with its label as masks.

    Args:
        number: Of the image, from 0.
        name: Its file.
        label: HW uint8.
        names: What to draw: id → name.
    """
    height, width = label.shape
    head = f'  <image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">\n'
    shown = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
    masks = (_element(label == id_, names[id_]) for id_ in shown if id_ in names)
    return f"{head}{''.join(masks)}  </image>\n"


def _element(mask: NDArray[np.bool_], name: str) -> str:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    runs = ", ".join(map(str, to_runs(mask[top:bottom, left:right].ravel())))
    return (
        f'    <mask label={quoteattr(name)} source="auto" occluded="0" rle="{runs}" left="{left}" '
        f'top="{top}" width="{right - left}" height="{bottom - top}" z_order="0"/>\n'
    )
