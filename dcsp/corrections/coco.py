"""COCO's instances: polygons and run lengths by category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.corrections.drawn import Drawn, Mask, Region, Size, later, of_regions, polygon
from dcsp.corrections.runs import from_coco_text, from_runs


def of_coco(content: Any) -> Iterator[Drawn]:
    """The images that have instances; one without any says nothing.

    Args:
        content: Of the JSON file.

    Raises:
        ValueError: These are none of COCO's instances; KeyError and TypeError say the same.
    """
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    regions: defaultdict[Any, list[Region]] = defaultdict(list)
    for instance in content["annotations"]:
        region = Region(names[instance["category_id"]], later(_mask, instance))
        regions[instance["image_id"]].append(region)
    for image in content["images"]:
        if found := regions.get(image["id"]):
            size = (int(image["height"]), int(image["width"]))
            yield of_regions(str(image["file_name"]), size, found)


def _mask(instance: Any) -> Mask:
    told = instance.get("segmentation")
    if not told:  # a box, or points
        raise ValueError("an instance without polygons or run lengths")
    if isinstance(told, list):
        shapes = [polygon(np.array(corners, np.float64).reshape(-1, 2)) for corners in told]
        return lambda size: np.logical_or.reduce([np.zeros(size, bool), *(s(size) for s in shapes)])

    def mask(size: Size) -> NDArray[np.bool_]:
        counts = told["counts"]
        runs = from_coco_text(counts) if isinstance(counts, str) else counts
        return from_runs(runs, size[0] * size[1]).reshape(size, order="F")

    return mask
