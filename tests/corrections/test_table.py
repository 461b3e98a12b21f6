"""The corrections table: a typed row for each image, half to learn from, half to measure by."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.corrections.files import pinned
from dcsp.corrections.table import CorrectionStage, Told, is_learned
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.erased import Erased, digest_of
from dcsp.tables.layout import catalogue_file
from dcsp.tables.schemas import CORRECTIONS, TRUTH
from tests.corrections.drawings import coco_file, config, cvat_file, scribble

IDS = [f"photo_{n:03}" for n in range(200)]


def stage(settings: RunConfig) -> CorrectionStage:
    settings = pinned(settings)
    return CorrectionStage(settings.corrections, settings.corpus, "corpus")


def corpus_of(place: Path, *ids: str, rejected: tuple[str, ...] = ()) -> Store:
    """A store with the catalogue of these images."""
    store = Store(place)
    parts = pa.array([0] * len(ids) + [-1] * len(rejected), pa.int32())
    names = pa.array([*ids, *rejected], pa.string())
    store.write_table(catalogue_file("corpus"), pa.table({"image_id": names, "part": parts}))
    return store


def rows_of(made: CorrectionStage, *rows: tuple[str, str]) -> list[dict[str, Any]]:
    """Rows of the table for images (id, split) of 40 by 48 pixels, which are the corpus."""
    table = pa.table(
        {
            "image_id": [image_id for image_id, _ in rows],
            "height": pa.array([40] * len(rows), pa.int32()),
            "width": pa.array([48] * len(rows), pa.int32()),
            "split": [split for _, split in rows],
        }
    )
    with TemporaryDirectory() as place:
        model = made.load(corpus_of(Path(place), *(i for i, _ in rows)), Device())
    return made.finish(model(table)).select(CORRECTIONS.names).cast(CORRECTIONS).to_pylist()


def test_half_of_all_ids_are_learned_from_and_always_the_same() -> None:
    learned = [image_id for image_id in IDS if is_learned(image_id)]
    assert 70 < len(learned) < 130
    assert [letter for letter in "abcdefl" if is_learned(f"photo_{letter}")] == [*"abcdf"]


def test_each_image_has_a_row_with_its_label_or_the_reason(tmp_path: Path) -> None:
    label = scribble(0)
    (tmp_path / "photo_a.png").write_bytes(encode_labels(label))
    (tmp_path / "photo_b.png").write_bytes(encode_labels(scribble(1, (40, 50))))
    (tmp_path / "photo_c.png").write_bytes(b"no picture")
    (tmp_path / "photo_d.png").write_bytes(encode_labels(label * 9 % 200))
    (tmp_path / "photo_e.png").write_bytes(encode_labels(label))
    names = [f"photo_{letter}" for letter in "abcdez"]
    a, b, c, d, e, z = rows_of(stage(config(tmp_path)), *((n, "train") for n in names))
    assert [row["status"] for row in (a, b, c, d, e, z)] == ["ok", *["error"] * 3, "ok", "skipped"]
    assert (decode_labels(a["train"]) == label).all() and a["measure"] is None
    assert (decode_labels(e["measure"]) == label).all() and e["train"] is None
    assert [b["error"].partition(":")[0], d["error"].partition(":")[0]] == [
        "wrong_size",
        "unreadable_correction",
    ]
    assert c["error"] and not (c["train"] or c["measure"])


def test_a_shape_file_of_another_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.xml").write_text(cvat_file(scribble(0, (41, 48)), "photo_a.png"))
    (row,) = rows_of(stage(config(tmp_path / "c.xml")), ("photo_a", "train"))
    assert row["error"].startswith("wrong_size: it is (41, 48) pixels, its image (40, 48)")


def test_no_network_learns_from_corrections_of_the_validation_split(tmp_path: Path) -> None:
    (tmp_path / "photo_a.png").write_bytes(encode_labels(scribble(0)))
    (row,) = rows_of(stage(config(tmp_path)), ("photo_a", "val"))
    assert row["train"] is None and row["measure"]


def test_the_later_file_counts(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps(coco_file(scribble(0), "photo_a.png")))
    (tmp_path / "2.xml").write_text(cvat_file(scribble(1), "images/photo_a.jpg"))
    places = [str(tmp_path / "1.json"), str(tmp_path / "2.xml")]
    for order in (places, places[::-1]):
        tree = config(places[0]).model_dump(mode="json") | {"corrections": order}
        (row,) = rows_of(stage(RunConfig.model_validate(tree)), ("photo_a", "train"))
        expected = scribble(1 if order[-1].endswith(".xml") else 0)
        assert (decode_labels(row["train"]) == expected).all()


def test_what_decides_the_table_is_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(cvat_file(scribble(1), "photo_a.jpg"))
    one = stage(config(tmp_path / "1.xml")).key.fingerprint
    (tmp_path / "1.xml").rename(tmp_path / "2.xml")
    assert stage(config(tmp_path / "2.xml")).key.fingerprint == one
    other = config(tmp_path / "2.xml", ("dog", "cat"))
    assert stage(other).key.fingerprint != one
    synonyms = config(tmp_path / "2.xml", synonyms={"dog": ["hound"]})
    assert stage(synonyms).key.fingerprint != one


def test_images_that_the_corpus_does_not_have_are_told(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(cvat_file(scribble(1), "photo_q.jpg").replace("dog", "unicorn"))
    settings = config(tmp_path / "1.xml")
    told = Told(stage(settings))(corpus_of(tmp_path / "store", "photo_a", rejected=("photo_q",)))
    assert told == (
        "1 correction; 1 of no image of the corpus, such as photo_q.jpg; pixels of what is no "
        "class are ignored: unicorn"
    )
    store = corpus_of(tmp_path / "store", "photo_q")
    assert "of no image" not in Told(stage(settings))(store)


def labels_of(made: CorrectionStage, *ids: str) -> list[NDArray[np.uint8] | None]:
    rows = rows_of(made, *((image_id, "val") for image_id in ids))
    return [decode_labels(row["measure"]) if row["measure"] else None for row in rows]


@pytest.mark.parametrize("ids", [("cat", "images/cat"), ("images/cat", "cat")])
def test_a_correction_is_of_one_image_the_likeliest(ids: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/cat.png").write_bytes(encode_labels(scribble(1)))
    found = dict(zip(ids, labels_of(stage(config(tmp_path)), *ids), strict=True))
    assert found["cat"] is None and (found["images/cat"] == scribble(1)).all()
    (alone,) = labels_of(stage(config(tmp_path)), "cat")
    assert (alone == scribble(1)).all()  # where no image has the whole name


@pytest.mark.parametrize("names", [("cat", "images/cat"), ("cat", "cat.jpg")])
def test_the_whole_name_goes_before_a_part_of_it(names: tuple[str, str], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(encode_labels(scribble(number)))
    (alone,) = labels_of(stage(config(tmp_path)), "cat")
    assert (alone == scribble(0)).all()
    both = labels_of(stage(config(tmp_path)), *names)
    assert all((label == scribble(number)).all() for number, label in enumerate(both))


def test_a_correction_of_an_erased_image_is_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(cvat_file(scribble(1), "images/cat"))
    made = stage(config(tmp_path / "1.xml"))
    store = corpus_of(tmp_path / "store", "cat")
    assert made.images(store, made.drawn()) == ["cat"]
    Erased(ids=frozenset({digest_of("images/cat")})).save(store)
    assert made.images(store, made.drawn()) == ["images/cat"]
    assert "of no image" not in Told(made)(store)


@pytest.mark.parametrize("own", ["ok", "error", "skipped"])
def test_masks_of_the_corpus_go_before_corrections(own: str) -> None:
    from dcsp.evaluation.truth import measured

    head = {"image_id": "a", "height": 40, "width": 48}
    drawn = pa.Table.from_pylist(
        [head | {"measure": encode_labels(scribble(0)), "status": "ok"}], CORRECTIONS
    )
    truth = pa.Table.from_pylist([head | {"label": b"", "status": own}], TRUTH)
    assert measured(drawn, truth, ())["status"].to_pylist() == ["skipped" if own == "ok" else "ok"]
    assert measured(drawn, None, ())["label"].to_pylist() == drawn["measure"].to_pylist()
