"""A label map of scribbles, and files of corrections that say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from dcsp.config import CorpusSettings, CorrectionSettings, RunConfig
from dcsp.config.file import parse_config
from dcsp.corrections import cvat, label_studio
from dcsp.corrections.drawn import Drawn, Ids
from dcsp.corrections.files import pinned, read_drawn

NAMES = {1: "cat", 2: "dog", 255: "ignored"}


def scribble(seed: int, size: tuple[int, int] = (40, 48)) -> NDArray[np.uint8]:
    """HW uint8: blocks of background, classes 1 and 2, and 255; each is there."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (5, 6))
    blocks[0, :4] = [0, 1, 2, 255]
    tall = -(-size[0] // 5)
    wide = -(-size[1] // 6)
    return np.kron(blocks, np.ones((tall, wide), np.uint8))[: size[0], : size[1]]


def coco_file(label: NDArray[np.uint8], file_name: str) -> dict[str, Any]:
    """COCO's instances of one image, the runs as pycocotools compresses them."""
    made = [
        {"image_id": 7, "category_id": id_, "segmentation": _segmentation(label == id_)}
        for id_ in NAMES
    ]
    return {
        "categories": [{"id": id_, "name": name} for id_, name in NAMES.items()],
        "images": [
            {"id": 7, "file_name": file_name, "height": label.shape[0], "width": label.shape[1]},
            {"id": 8, "file_name": "nobody.png", "height": 1, "width": 1},
        ],
        "annotations": made,
    }


def _segmentation(mask: NDArray[np.bool_]) -> dict[str, Any]:
    told = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": told["size"], "counts": told["counts"].decode()}


def label_studio_file(label: NDArray[np.uint8], image_id: str) -> list[Any]:
    """An export in which somebody has submitted our prediction as it was."""
    task = label_studio.task(image_id, f"images/{image_id}.png", label, NAMES)
    (prediction,) = task.pop("predictions")
    return [task | {"annotations": [{"result": prediction["result"], "was_cancelled": False}]}]


def cvat_file(label: NDArray[np.uint8], file_name: str) -> str:
    return cvat.head([*NAMES.values()]) + cvat.image(0, file_name, label, NAMES) + cvat.FOOT


def config(
    place: Path | str, classes: tuple[str, ...] = ("cat", "dog"), **corpus: Any
) -> RunConfig:
    tree = {"kind": "folder", "root": "unused", "classes": list(classes), **corpus}
    return parse_config({"store": "unused", "corpus": tree, "corrections": str(place)})


def drawn_in(place: Path | str) -> list[Drawn]:
    (where,) = pinned(config(place)).corrections
    assert isinstance(where, CorrectionSettings)
    return read_drawn(where)


def painted(drawn: Drawn, size: tuple[int, int], *classes: str) -> NDArray[np.uint8]:
    corpus = CorpusSettings(kind="folder", root="x", classes=classes or ("cat", "dog"))
    return drawn.paint(size, Ids(corpus.mapper()))
