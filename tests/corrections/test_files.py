"""Files of corrections: told apart by their content, read to the same label map, digested by it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from dcsp.corrections.drawn import Drawn
from dcsp.corrections.files import pinned, read_drawn
from dcsp.errors import ConfigError
from dcsp.tables.codecs import encode_labels
from tests.corrections.drawings import (
    coco_file,
    config,
    cvat_file,
    drawn_in,
    label_studio_file,
    painted,
    scribble,
)

LABEL = scribble(3)
PNG = encode_labels(LABEL)


def write(place: Path, kind: str) -> Path:
    """One correction, of the image ``a/b``, in a file of a kind without a telling name."""
    if kind == "png":
        (place / "a").mkdir(parents=True)
        (place / "classes.txt").write_text("background\ncat\ndog\n")
        (place / "a/b.png").write_bytes(PNG)
        return place
    made: dict[str, Any] = {
        "coco": json.dumps(coco_file(LABEL, "a/b.jpg")),
        "label studio": json.dumps(label_studio_file(LABEL, "a/b")),
        "cvat": cvat_file(LABEL, "a/b.jpg"),
    }
    place.write_text(made[kind])
    return place


@pytest.mark.parametrize("kind", ["png", "coco", "label studio", "cvat"])
def test_every_kind_says_the_same_of_the_same_image(kind: str, tmp_path: Path) -> None:
    (drawn,) = drawn_in(write(tmp_path / "file", kind))
    assert "a/b" in drawn.ids() and drawn.size in (None, LABEL.shape)
    assert (painted(drawn, LABEL.shape) == LABEL).all()


@pytest.mark.parametrize("kind", ["png", "coco", "label studio", "cvat"])
def test_names_outlive_a_change_of_classes(kind: str, tmp_path: Path) -> None:
    (drawn,) = drawn_in(write(tmp_path / "file", kind))
    table = np.full(256, 255, np.uint8)
    table[[0, 2]] = [0, 3]  # dog is the third class now, and cat is none
    assert (painted(drawn, LABEL.shape, "cow", "ewe", "dog") == table[LABEL]).all()


def test_masks_without_names_hold_the_ids_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.jpg.png").write_bytes(PNG)
    (drawn,) = drawn_in(tmp_path)
    assert "a" in drawn.ids()
    assert (painted(drawn, LABEL.shape, "x", "y") == LABEL).all()
    with pytest.raises(ValueError, match=r"it holds \[2\], not ids 0 to 1"):
        painted(drawn, LABEL.shape, "x")


def test_polygons_are_the_pixels_that_coco_means(tmp_path: Path) -> None:
    corners = [3.0, 2.0, 40.5, 5.0, 30.0, 38.0, 8.0, 30.5]
    told = coco_file(LABEL, "a.png")
    told["annotations"] = [{"image_id": 7, "category_id": 2, "segmentation": [corners]}]
    (tmp_path / "f.json").write_text(json.dumps(told))
    found = painted(drawn_in(tmp_path / "f.json")[0], LABEL.shape) == 2
    expected = coco.decode(coco.frPyObjects([corners], *LABEL.shape))[:, :, 0].astype(bool)
    assert (found & expected).sum() / (found | expected).sum() > 0.95


def test_polygons_of_label_studio_and_cvat_are_the_same(tmp_path: Path) -> None:
    corners = np.array([[6.0, 4.0], [42.0, 4.0], [42.0, 32.0], [6.0, 32.0]])
    points = ";".join(f"{x},{y}" for x, y in corners)
    (tmp_path / "c.xml").write_text(
        '<annotations><image name="a.png" width="48" height="40">'
        f'<polygon label="dog" points="{points}" z_order="1"/></image></annotations>'
    )
    tasks = label_studio_file(LABEL, "a")
    tasks[0]["annotations"][0]["result"] = [
        {
            "type": "polygonlabels",
            "original_width": 48,
            "original_height": 40,
            "value": {
                "points": (corners / [48, 40] * 100).tolist(),
                "polygonlabels": ["dog"],
            },
        }
    ]
    (tmp_path / "l.json").write_text(json.dumps(tasks))
    expected = np.zeros(LABEL.shape, np.uint8)
    expected[4:32, 6:42] = 2
    for name in ("c.xml", "l.json"):
        assert (painted(drawn_in(tmp_path / name)[0], LABEL.shape) == expected).all()


def test_shapes_on_top_win(tmp_path: Path) -> None:
    shapes = [
        f'<mask label="{name}" rle="0, 4" left="{left}" top="0" width="2" height="2" '
        f'z_order="{z}"/>'
        for name, left, z in (("cat", 1, 5), ("dog", 0, 2))
    ]
    (tmp_path / "c.xml").write_text(
        f'<annotations><image name="a" width="3" height="2">{"".join(shapes)}</image></annotations>'
    )
    assert painted(drawn_in(tmp_path / "c.xml")[0], (2, 3)).tolist() == [[2, 1, 1]] * 2


def test_only_what_somebody_drew_is_a_correction(tmp_path: Path) -> None:
    done, undone = label_studio_file(LABEL, "a"), label_studio_file(LABEL, "b")
    undone[0]["annotations"] = []
    cancelled = label_studio_file(LABEL, "c")
    cancelled[0]["annotations"][0]["was_cancelled"] = True
    empty = label_studio_file(LABEL, "d")
    empty[0]["annotations"][0]["result"] = []
    (tmp_path / "l.json").write_text(json.dumps([*done, *undone, *cancelled, *empty]))
    found = {drawn.image: drawn for drawn in drawn_in(tmp_path / "l.json")}
    assert [*found] == ["a", "d"]
    assert not painted(found["d"], LABEL.shape).any()  # submitted without a shape: background
    bare = '<annotations><image name="a" width="3" height="2"/></annotations>'
    (tmp_path / "c.xml").write_text(bare)
    assert drawn_in(tmp_path / "c.xml") == []


@pytest.mark.parametrize(
    ("written", "image_id"),
    [
        ("/data/local-files/?d=images/a%20b/c.jpg", "a b/c"),
        ("/data/upload/12/0a1b2c3d-c.jpg", "c"),
        ("images/c.v2.png", "c.v2"),
        ("./a\\c.jpg", "a/c"),
    ],
)
def test_images_are_found_by_the_names_that_tools_give_them(
    written: str, image_id: str, tmp_path: Path
) -> None:
    tasks = label_studio_file(LABEL, "x")
    tasks[0]["data"] = {"image": written}
    (tmp_path / "l.json").write_text(json.dumps(tasks))
    assert image_id in drawn_in(tmp_path / "l.json")[0].ids()
    assert image_id in Drawn(written.partition("d=")[2] or written, lambda s, i: LABEL).ids() or (
        "/data/" in written
    )


def test_one_bad_shape_costs_its_image_alone(tmp_path: Path) -> None:
    text = cvat_file(LABEL, "a.png").replace("</annotations>", "")
    text += '<image name="b.png" width="48" height="40"><box label="cat" xtl="0"/></image>'
    (tmp_path / "c.xml").write_text(text + "</annotations>")
    good, bad = drawn_in(tmp_path / "c.xml")
    assert (painted(good, LABEL.shape) == LABEL).all()
    with pytest.raises(ValueError, match="type 'box'"):
        painted(bad, LABEL.shape)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        "{",
        "<a/>",
        "<annotations>",
        '<!DOCTYPE a [<!ENTITY x "y">]><annotations/>',
        '[{"data": {}}]',
    ],
)
def test_what_is_none_of_the_kinds_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(content)
    with pytest.raises(ConfigError, match=r"^corrections=.*/f cannot be read \(.*: give a folder"):
        drawn_in(tmp_path / "f")


def test_places_that_hold_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("none")
    with pytest.raises(ConfigError, match="holds no PNG files"):
        pinned(config(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="cannot be opened"):
        pinned(config(tmp_path / "missing"))


def test_content_decides_and_not_when_or_where_it_was_written(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        place.mkdir()
        (place / "a.png").write_bytes(PNG)
    os.utime(other / "a.png", (1, 1))
    digests = [pinned(config(place)).corrections[0].digest for place in (one, other)]
    assert digests[0] == digests[1]
    (other / "a.png").write_bytes(encode_labels(scribble(4)))
    assert pinned(config(other)).corrections[0].digest != digests[0]


def test_a_file_that_changes_under_a_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (where,) = pinned(config(tmp_path)).corrections
    (tmp_path / "a.png").write_bytes(encode_labels(scribble(4)))
    with pytest.raises(ConfigError, match="is not what it was when this run was planned"):
        read_drawn(where)


def test_corrections_in_a_bucket_are_read_as_others(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/fixes/masks/a.png", PNG)
    bucket.pipe("/fixes/c.xml", cvat_file(LABEL, "a.png").encode())
    for place in ("memory://fixes/masks", "memory://fixes/c.xml"):
        (drawn,) = drawn_in(place)
        assert (painted(drawn, LABEL.shape) == LABEL).all()


@pytest.mark.parametrize("told", [{"segmentation": []}, {}, {"segmentation": None}])
def test_a_box_alone_costs_its_image_alone(told: dict[str, Any], tmp_path: Path) -> None:
    content = coco_file(LABEL, "a.png")
    content["annotations"].append(
        {"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], **told},
    )
    (tmp_path / "f.json").write_text(json.dumps(content))
    good, bad = drawn_in(tmp_path / "f.json")
    assert (painted(good, LABEL.shape) == LABEL).all()
    with pytest.raises(ValueError, match="without polygons or run lengths"):
        painted(bad, (1, 1))


@pytest.mark.parametrize("corner", ["NaN", "Infinity", "-Infinity", "1e300"])
def test_a_polygon_with_a_corner_nowhere_is_refused_and_not_empty(
    corner: str, tmp_path: Path
) -> None:
    content = coco_file(LABEL, "a.png")
    content["annotations"] = [{"image_id": 7, "category_id": 2, "segmentation": ["CORNERS"]}]
    text = json.dumps(content).replace('"CORNERS"', f"[0, 0, 9, 0, 9, {corner}]")
    (tmp_path / "f.json").write_text(text)
    (tmp_path / "c.xml").write_text(
        '<annotations><image name="a.png" width="48" height="40">'
        f'<polygon label="dog" points="0,0;9,0;9,{corner}"/></image></annotations>'
    )
    tasks = label_studio_file(LABEL, "a")
    shape = {"points": ["CORNERS"], "polygonlabels": ["dog"]}
    tasks[0]["annotations"][0]["result"] = [{"type": "polygonlabels", "value": shape}]
    text = json.dumps(tasks).replace('"CORNERS"', f"[0, 0], [9, 0], [9, {corner}]")
    (tmp_path / "l.json").write_text(text)
    for name in ("f.json", "c.xml", "l.json"):
        with pytest.raises(ValueError, match="corner beyond any image"):
            painted(drawn_in(tmp_path / name)[0], LABEL.shape)


CHOICE = {"type": "choices", "from_name": "quality", "value": {"choices": ["good"]}}


def test_what_is_said_of_a_whole_image_is_no_shape(tmp_path: Path) -> None:
    tasks = label_studio_file(LABEL, "a")
    tasks[0]["annotations"][0]["result"].insert(0, CHOICE)
    (tmp_path / "l.json").write_text(json.dumps(tasks))
    (drawn,) = drawn_in(tmp_path / "l.json")
    assert drawn.size == LABEL.shape and (painted(drawn, LABEL.shape) == LABEL).all()


@pytest.mark.parametrize("kind", ["choices", "rectanglelabels", None])
def test_results_without_any_mask_cost_their_image_alone(kind: str | None, tmp_path: Path) -> None:
    """Nobody who chose something, or drew a box, has said that all is background."""
    good, bad = label_studio_file(LABEL, "a"), label_studio_file(LABEL, "b")
    bad[0]["annotations"][0]["result"] = [{**CHOICE, "type": kind} if kind else {"value": {}}]
    (tmp_path / "l.json").write_text(json.dumps([*good, *bad]))
    first, second = drawn_in(tmp_path / "l.json")
    assert (painted(first, LABEL.shape) == LABEL).all()
    with pytest.raises((ValueError, KeyError), match="type"):
        painted(second, LABEL.shape)
