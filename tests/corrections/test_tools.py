"""The tools' own libraries open what we write for them, and we read what they write.

They come with the extra ``exports``, and datumaro, which asks for older versions of what is pinned
here, as ``.ci/run`` installs it. Without them these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsp.corrections.runs import from_brush, to_brush, to_runs
from tests.corrections.drawings import (
    NAMES,
    cvat_file,
    drawn_in,
    label_studio_file,
    painted,
    scribble,
)

LABEL = scribble(5)
WHY = "pip install dcsp[exports]"


def test_label_studio_decodes_our_predictions() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=WHY)
    (task,) = label_studio_file(LABEL, "a")
    results = task["annotations"][0]["result"]
    flat = [r | r["value"] for r in results]  # the converter's own flattening of results
    found = brush.decode_from_annotation("label", flat)
    assert len(found) == len(NAMES)
    for id_, name in NAMES.items():
        assert ((found[f"label-{name}-0"] > 0) == (id_ == LABEL)).all()


def test_we_read_what_label_studio_encodes(tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=WHY)
    for seed in range(3):
        mask = scribble(seed) == 1
        told = brush.mask2rle(mask.astype(np.uint8) * 255)
        assert (from_brush(told, mask.size) == mask.ravel()).all()
        ours = to_brush(mask)
        assert told[: len(ours)] == ours and not any(told[len(ours) :])
    noise = np.random.default_rng(0).integers(0, 256, (7, 5, 4), np.uint8)
    told = brush.encode_rle(noise.ravel())
    assert (from_brush(told, 35) == (noise[:, :, 3] > 0).ravel()).all()
    tasks = label_studio_file(LABEL, "a")
    for result in tasks[0]["annotations"][0]["result"]:
        id_ = next(i for i, n in NAMES.items() if n == result["value"]["brushlabels"][0])
        result["value"]["rle"] = brush.mask2rle((id_ == LABEL).astype(np.uint8) * 255)
    (tmp_path / "l.json").write_text(json.dumps(tasks))
    assert (painted(drawn_in(tmp_path / "l.json")[0], LABEL.shape) == LABEL).all()


def test_label_studio_takes_our_tasks_for_its_interface() -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=WHY)
    from dcsp.corrections.label_studio import config

    colours = np.arange(9, dtype=np.uint8).reshape(3, 3)
    names = ["cat & <dog>", "ignored", 'a "quoted" one']
    view = interface.LabelInterface(config(names, colours))
    (labels,) = view.labels
    assert [*labels] == names
    (task,) = label_studio_file(LABEL, "a")
    result = task["annotations"][0]["result"]
    view = interface.LabelInterface(config([*NAMES.values()], colours))
    assert view.validate_annotation({"result": result})
    assert view.validate_prediction({"model_version": "dcsp", "result": result})


def test_datumaro_opens_our_cvat_file(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason=WHY)
    (tmp_path / "cvat.xml").write_text(cvat_file(LABEL, "a/b.png"))
    (tmp_path / "images/a").mkdir(parents=True)  # as dcsp review lays them
    Image.fromarray(LABEL).save(tmp_path / "images/a/b.png")
    dataset = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    (item,) = [*dataset]
    assert item.id in ("a/b", "b")
    names = [label.name for label in item_categories(dataset)]
    found = np.zeros(LABEL.shape, np.uint8)
    ids = {name: id_ for id_, name in NAMES.items()}
    for annotation in item.annotations:
        found[np.asarray(annotation.image, bool)] = ids[names[annotation.label]]
    assert (found == LABEL).all()


def item_categories(dataset: object) -> list[object]:
    import datumaro

    categories = dataset.categories()  # type: ignore[attr-defined]
    return list(categories[datumaro.AnnotationType.label])


def test_cvat_counts_pixels_as_we_do() -> None:
    masks = pytest.importorskip("cvat_sdk.masks", reason=WHY)
    mask = LABEL == 2
    *runs, left, top, right, bottom = map(int, masks.encode_mask(mask))
    window = mask[top : bottom + 1, left : right + 1]
    assert runs == to_runs(window.ravel())
