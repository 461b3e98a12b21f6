"""Every format, opened by the library that owns it or by its written rules, holds the labels."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as masks
from pycocotools.coco import COCO

from dcsp.cli.take import Format
from dcsp.corrections.cvat import of_cvat
from dcsp.corrections.label_studio import of_label_studio
from dcsp.exports.registry import FORMATS
from dcsp.labels import voc_palette
from tests.corrections.drawings import drawn_in, painted
from tests.exports.conftest import CLASSES, SIZE, Labelled

WHY = "pip install dcsp[exports]"
SPLITS = ("train", "val")


def pixels(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        return np.asarray(image)


def files(folder: Path, pattern: str) -> dict[str, Path]:
    return {
        str(path.relative_to(folder).with_suffix("")): path
        for path in folder.rglob(pattern)
        if ".export" not in path.parts
    }


def assert_images(folder: Path, whole: Labelled, *splits: str) -> None:
    """The folder holds each image with a label, as it was ingested, and nothing else."""
    found = {name: path.read_bytes() for name, path in files(folder, "*.png").items()}
    assert found == {name: whole.images[name]["bytes"] for name in whole.labels(*splits)}


def test_the_command_offers_what_is_registered() -> None:
    assert list(Format.__args__) == list(FORMATS)  # type: ignore[attr-defined]


def test_voc_is_palette_masks_and_lists_of_classes(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="voc")
    found = files(tmp_path, "*.png")
    assert found.keys() == whole.labels().keys()
    for name, label in whole.labels().items():
        assert np.array_equal(pixels(found[name]), label)
    lines = (tmp_path / "labelmap.txt").read_text().splitlines()
    assert lines[1:] == ["background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::"]
    for drawn in drawn_in(tmp_path):  # our own reader of corrected folders
        name = next(i for i in drawn.ids() if i in whole.labels())
        assert np.array_equal(painted(drawn, SIZE), whole.labels()[name])


@pytest.mark.parametrize("format_", ["coco", "coco-polygons"])
def test_pycocotools_opens_coco(whole: Labelled, tmp_path: Path, format_: str) -> None:
    whole.export(tmp_path, format=format_)
    seen: list[int] = []
    for split in SPLITS:
        told = COCO(str(tmp_path / f"annotations/instances_{split}.json"))
        assert {c["id"]: c["name"] for c in told.loadCats(told.getCatIds())} == CLASSES
        assert [c["color"] for c in told.loadCats([1, 2])] == voc_palette()[1:3].tolist()
        assert_images(tmp_path / "images" / split, whole, split)
        assert len(told.imgs) == len(whole.labels(split))
        for image in told.imgs.values():
            path = tmp_path / "images" / split / image["file_name"]
            assert pixels(path).shape[:2] == (image["height"], image["width"])
            label = whole.labels()[str(Path(image["file_name"]).with_suffix(""))]
            found = np.zeros_like(label)
            for annotation in told.loadAnns(told.getAnnIds(imgIds=[image["id"]], iscrowd=False)):
                mask = told.annToMask(annotation) > 0
                assert annotation["area"] == mask.sum()
                box = masks.toBbox(told.annToRLE(annotation))
                assert annotation["bbox"] == box.tolist()
                assert not found[mask].any()
                found[mask] = annotation["category_id"]
                seen.append(annotation["id"])
            assert np.array_equal(found, np.where(label == 255, 0, label))
    assert len(seen) == len(set(seen)) >= 2 * len(whole.labels()) - 2


def test_the_pngs_of_coco_panoptic_hold_ids_of_segments(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="coco-panoptic")
    for split in SPLITS:
        told = json.loads((tmp_path / f"annotations/panoptic_{split}.json").read_text())
        assert {c["id"]: (c["name"], c["isthing"]) for c in told["categories"]} == {
            id_: (name, 0) for id_, name in CLASSES.items()
        }
        names = {image["id"]: image["file_name"] for image in told["images"]}
        assert len(told["annotations"]) == len(whole.labels(split)) == len(names)
        for annotation in told["annotations"]:
            image_id = annotation["file_name"].removesuffix(".png")
            assert names[annotation["image_id"]] == annotation["file_name"]
            png = pixels(tmp_path / f"annotations/panoptic_{split}" / annotation["file_name"])
            ids = png.astype(int) @ [1, 256, 65536]
            label = whole.labels()[image_id]
            expected = np.where(label == 255, 0, label)
            segments = {s["id"]: s["category_id"] for s in annotation["segments_info"]}
            meaning = np.array([segments.get(id_, 0) for id_ in range(256)])
            assert np.array_equal(meaning[ids], expected)
            for segment in annotation["segments_info"]:
                assert segment["area"] == (ids == segment["id"]).sum()
        assert_images(tmp_path / "images" / split, whole, split)


def filled(text: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A label file by the rules of Ultralytics: shares to pixels, cut off, then filled.

    The pixels that an outline goes through belong to it, as OpenCV has it.
    """
    canvas = Image.new("L", size[::-1])
    for line in text.splitlines():
        class_, *shares = map(float, line.split())
        assert len(shares) >= 6
        points = (np.array(shares, np.float32).reshape(-1, 2) * np.float32(size[::-1])).astype(int)
        corners = [tuple(point) for point in points.tolist()]
        ImageDraw.Draw(canvas).polygon(corners, fill=int(class_) + 1)
    return np.asarray(canvas)


def test_polygons_of_yolo_fill_to_the_labels(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="yolo")
    told = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert told == {"train": "images/train", "val": "images/val", "names": {0: "cat", 1: "dog"}}
    for split in SPLITS:
        images = tmp_path / told[split]
        assert_images(images, whole, split)
        texts = files(tmp_path / "labels" / split, "*.txt")
        assert texts.keys() == whole.labels(split).keys()
        for name, label in whole.labels(split).items():
            expected = np.where(label == 255, 0, label)
            assert np.array_equal(filled(texts[name].read_text(), SIZE), expected)


OPENED = """
import sys, numpy as np
from pathlib import Path
from ultralytics.data import utils
utils.check_font = lambda font: None  # it fetches one
out, found = Path(sys.argv[1]), {}
told = utils.check_det_dataset(str(out / "data.yaml"), autodownload=False)
assert told["names"] == {0: "cat", 1: "dog"}
for split in ("train", "val"):
    images = sorted(map(str, Path(told[split]).rglob("*.png")))
    for image, text in zip(images, utils.img2label_paths(images), strict=True):
        row = utils.verify_image_label((image, text, "", False, 2, 0, 0, False))
        _, boxes, size, segments, _, missing, _, empty, corrupt, _ = row
        assert (missing, empty, corrupt) == (0, 0, 0)
        label = found[Path(image).stem] = np.zeros(size, np.uint8)
        for (class_, *_), shares in zip(boxes, segments, strict=True):
            points = (shares * np.array(size[::-1])).reshape(-1)
            label[utils.polygon2mask(size, [points]) > 0] = class_ + 1
np.savez(sys.argv[2], **found)
"""
"""Run apart: Ultralytics replaces functions of Pillow and OpenCV when it is imported."""


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="pip install ultralytics")
def test_ultralytics_opens_yolo(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path / "out", format="yolo")
    places = [str(tmp_path / "out"), str(tmp_path / "found.npz")]
    settings = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", OPENED, *places], check=True, env=settings)
    found = np.load(places[1])
    assert set(found) == whole.labels().keys()
    for name, label in whole.labels().items():
        assert np.array_equal(found[name], np.where(label == 255, 0, label))


def test_one_split_stands_for_both_in_yolo(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, "train", format="yolo")
    told = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert told["train"] == told["val"] == "images/train"


def test_label_studio_opens_its_tasks(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="label-studio")
    assert_images(tmp_path / "images", whole)
    tasks = json.loads((tmp_path / "label-studio.json").read_text())
    submitted = [task | {"annotations": task["predictions"]} for task in tasks]
    found = {drawn.image: painted(drawn, SIZE) for drawn in of_label_studio(submitted)}
    assert found.keys() == whole.labels().keys()
    for name, label in whole.labels().items():
        assert np.array_equal(found[name], label)
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=WHY)
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=WHY)
    view = interface.LabelInterface((tmp_path / "label-studio.xml").read_text())
    for task in tasks:
        assert (tmp_path / task["data"]["image"].removeprefix("/data/local-files/?d=")).is_file()
        (prediction,) = task["predictions"]
        assert view.validate_prediction(prediction)
        flat = [result | result["value"] for result in prediction["result"]]
        areas = {
            name.split("-")[1]: int((mask > 0).sum())
            for name, mask in brush.decode_from_annotation("label", flat).items()
        }
        label = whole.labels()[task["data"]["image_id"]]
        names = {**CLASSES, 255: "ignored"}
        assert areas == {n: (label == i).sum() for i, n in names.items() if (label == i).any()}


def test_cvat_files_hold_the_labels(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="cvat")
    assert_images(tmp_path / "images", whole)
    drawn = list(of_cvat((tmp_path / "cvat.xml").read_bytes()))
    assert len(drawn) == len(whole.labels())
    for correction in drawn:
        label = whole.labels()[next(i for i in correction.ids() if i in whole.labels())]
        assert np.array_equal(painted(correction, SIZE), label)
    names = [label["name"] for label in json.loads((tmp_path / "cvat-labels.json").read_text())]
    assert names == ["background", "cat", "dog", "ignored"]


def test_datumaro_opens_cvat(whole: Labelled, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason=WHY)
    whole.export(tmp_path, format="cvat")
    dataset = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    kinds = dataset.categories()[datumaro.AnnotationType.label]
    ids = {"cat": 1, "dog": 2, "ignored": 255}
    items = {item.id: item for item in dataset}
    assert items.keys() == whole.labels().keys()
    for name, label in whole.labels().items():
        found = np.zeros(SIZE, np.uint8)
        for annotation in items[name].annotations:
            found[np.asarray(annotation.image, bool)] = ids[kinds[annotation.label].name]
        assert np.array_equal(found, label)


@pytest.mark.parametrize("format_", ["coco", "coco-polygons", "coco-panoptic"])
def test_datumaro_opens_coco(whole: Labelled, tmp_path: Path, format_: str) -> None:
    datumaro = pytest.importorskip("datumaro", reason=WHY)
    whole.export(tmp_path, format=format_)
    name = "coco_panoptic" if format_ == "coco-panoptic" else "coco_instances"
    dataset = datumaro.Dataset.import_from(str(tmp_path), name)
    assert {(item.id, item.subset) for item in dataset} == {
        (name, image["split"]) for name, image in whole.images.items() if image["label"] is not None
    }
    kinds = dataset.categories()[datumaro.AnnotationType.label]
    ids = {name: id_ for id_, name in CLASSES.items()}
    for item in dataset:
        assert item.media.size == SIZE
        label = whole.labels()[item.id]
        areas = dict.fromkeys(CLASSES, 0.0)
        for annotation in item.annotations:
            if annotation.type != datumaro.AnnotationType.bbox:  # it makes them of our boxes
                areas[ids[kinds[annotation.label].name]] += annotation.get_area()
        assert areas == {id_: (label == id_).sum() for id_ in CLASSES}


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [
        row
        for file in sorted(out.glob("data/*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def test_parquet_holds_images_masks_and_features(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="hf")
    rows = {row["image_id"]: row for row in rows_of(tmp_path)}
    assert rows.keys() == whole.labels().keys()
    for name, label in whole.labels().items():
        row = rows[name]
        assert row["image"] == {"bytes": whole.images[name]["bytes"], "path": f"{name}.png"}
        with Image.open(io.BytesIO(row["mask"]["bytes"])) as mask:
            assert np.array_equal(np.asarray(mask), label)
        assert row["classes"] == [id_ for id_ in CLASSES if (label == id_).any()]
    names = {path.name.split("-")[0] for path in (tmp_path / "data").iterdir()}
    assert names == {"train", "validation"}
    metadata = pq.read_schema(next((tmp_path / "data").iterdir())).metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == features["mask"] == {"_type": "Image"}
    told = json.loads(metadata[b"dcsp.classes"])
    assert [c["name"] for c in told] == ["background", "cat", "dog", "ignored"]
    assert told == json.loads((tmp_path / "classes.json").read_text())


def test_datasets_opens_parquet(
    whole: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    whole.export(tmp_path / "out", format="hf")
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"train", "validation"}
    for split, name in (("train", "train"), ("val", "validation")):
        assert found[name].features["classes"].feature.names == ["background", "cat", "dog"]
        assert len(found[name]) == len(whole.labels(split))
        for row in found[name]:
            assert np.array_equal(np.asarray(row["mask"]), whole.labels()[row["image_id"]])
            assert row["image"].size == SIZE[::-1]
    file = next((tmp_path / "out/data").glob("train-*"))
    one = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert one.features["image"] == datasets.Image()


def test_fiftyone_finds_pairs_of_images_and_grey_ids(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="fiftyone")
    for split in SPLITS:
        assert_images(tmp_path / split / "data", whole, split)
        found = files(tmp_path / split / "labels", "*.png")
        assert found.keys() == whole.labels(split).keys()
        for name, label in whole.labels(split).items():
            with Image.open(found[name]) as image:
                assert image.mode == "L"  # OpenCV, which reads them there, makes a palette RGB
                assert np.array_equal(np.asarray(image), label)
    targets = json.loads((tmp_path / "mask_targets.json").read_text())
    assert targets == {"1": "cat", "2": "dog", "255": "ignored"}


def test_images_and_masks_of_a_folder_have_equal_names(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="folder")
    for split in SPLITS:
        assert_images(tmp_path / "images" / split, whole, split)
        found = files(tmp_path / "masks" / split, "*.png")
        assert found.keys() == whole.labels(split).keys()
        for name, label in whole.labels(split).items():
            assert np.array_equal(pixels(found[name]), label)
    told = {c["id"]: c for c in json.loads((tmp_path / "classes.json").read_text())}
    assert [*told] == [0, 1, 2, 255] and told[2]["color"] == [0, 128, 0]
