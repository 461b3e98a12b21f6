"""What dcsp review writes: images as they are, labels that every reader of corrections reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from dcsp.corrections.cvat import of_cvat
from dcsp.corrections.drawn import Drawn
from dcsp.corrections.label_studio import of_label_studio
from dcsp.exports.labels import Labels
from dcsp.inspection.inventory import directory_of, find_run
from dcsp.review.pick import pick
from dcsp.review.write import write_review
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.upkeep.erasure import erase
from tests.cli.running import dcsp
from tests.corrections.drawings import drawn_in, painted, scribble
from tests.upkeep.conftest import Nights, two_nights  # noqa: F401


@pytest.fixture(scope="module")
def written(two_nights: Nights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:  # noqa: F811
    out = tmp_path_factory.mktemp("review")
    store = two_nights.copied(out / "store").store
    run = find_run(store)
    directory = directory_of(run, Role.PREDICTIONS)
    assert directory is not None
    for number, part in enumerate(sorted(store.parts(directory))):
        table = store.read_table(part_file(directory, part))
        drawn = [encode_labels(scribble(10 * number + row)) for row in range(table.num_rows)]
        place = table.column_names.index("label")
        table = table.set_column(place, table.schema.field("label"), [drawn])
        store.write_table(part_file(directory, part), table)
    (out / "written").mkdir()
    assert write_review(store, run, pick(store, run, 3, seed=0), out / "written") == (3, 0)
    yield out / "written"


def labels(out: Path) -> dict[str, np.ndarray]:
    return {path.stem: decode_labels(path.read_bytes()) for path in (out / "labels").glob("*.png")}


def test_labels_are_those_of_the_run(written: Path) -> None:
    found, store = labels(written), Store(str(written.parent / "store"))
    assert len(found) == 3
    made = Labels(store, find_run(store), "published")
    rows = {
        row["image_id"]: row["label"]
        for part in made.snapshot.of(made.splits)
        for row in made.read(part).to_pylist()
    }
    for name, label in found.items():
        assert (label == decode_labels(rows[name])).all()
        with Image.open(written / f"images/{name}.png") as image:
            assert image.size == label.shape[::-1]


@pytest.mark.parametrize("kind", ["png", "label studio", "cvat"])
def test_what_is_written_is_read_as_it_was(kind: str, written: Path) -> None:
    expected = labels(written)
    drawn: list[Drawn]
    if kind == "png":
        drawn = drawn_in(written / "labels")
    elif kind == "cvat":
        drawn = [*of_cvat((written / "cvat.xml").read_bytes())]
    else:
        tasks = json.loads((written / "label-studio.json").read_text())
        submitted = [t | {"annotations": t["predictions"]} for t in tasks]
        drawn = [*of_label_studio(submitted)]
    assert len(drawn) == len(expected) == 3
    for correction in drawn:
        name = next(i for i in correction.ids() if i in expected)
        assert (painted(correction, expected[name].shape) == expected[name]).all()


def test_every_tool_is_told_of_the_same_names(written: Path) -> None:
    names = ["background", "cat", "dog"]
    assert (written / "labels/classes.txt").read_text().split() == names
    told = json.loads((written / "cvat-labels.json").read_text())
    assert [label["name"] for label in told] == [*names, "ignored"]
    interface = (written / "label-studio.xml").read_text()
    places = [interface.index(f'value="{name}"') for name in (*names, "ignored")]
    assert places == sorted(places)
    assert f"DOCUMENT_ROOT={written}\n" in (written / "README.txt").read_text()


def test_the_command_writes_into_new_folders_alone(two_nights: Nights, tmp_path: Path) -> None:  # noqa: F811
    store = two_nights.store.location("")
    done = dcsp("review", store, "--budget", "2", "--out", tmp_path / "out")
    assert f"2 images to correct in {tmp_path / 'out'}" in done.output
    again = dcsp("review", store, "--budget", "2", "--out", tmp_path / "out", code=2)
    assert "which may be somebody's corrections" in again.output
    inside = dcsp("review", store, "--budget", "2", "--out", Path(store) / "out", code=2)
    assert "must not lie in one another" in inside.output


def named_anew(nights: Nights, store: Store, names: list[str]) -> list[str]:
    """Give the first training images of a run other names; returns those they had."""
    run = find_run(store)
    before = [p.image_id for p in pick(store, run, 99, seed=0)][: len(names)]
    new = dict(zip(before, names, strict=True))
    roles = (Role.TRUST, Role.PREDICTIONS)
    for directory in (CORPUS_DIRECTORY, *filter(None, (directory_of(run, r) for r in roles))):
        for part in store.parts(directory):
            table = store.read_table(part_file(directory, part))
            ids = [new.get(i, i) for i in table["image_id"].to_pylist()]
            at = table.column_names.index("image_id")
            table = table.set_column(at, table.schema.field("image_id"), pa.array(ids))
            store.write_table(part_file(directory, part), table)
    return before


def test_a_name_that_no_file_can_have_costs_its_image_alone(
    two_nights: Nights,  # noqa: F811
    tmp_path: Path,
) -> None:
    store = two_nights.copied(tmp_path / "store").store
    names = ["x" * 253, "a", "a.png/b", "/c"]
    named_anew(two_nights, store, names)
    run, out = find_run(store), tmp_path / "out of it's way"
    picked = pick(store, run, 99, seed=0)
    done = write_review(store, run, picked, out)
    assert (done.written, done.unnamed) == (len(picked) - 3, 3)  # a, or a.png/b
    tasks = json.loads((out / "label-studio.json").read_text())
    files = {task["data"]["image_id"] for task in tasks}
    shown = {str(p.relative_to(out / "images").with_suffix("")) for p in files_in(out / "images")}
    drawn = {str(p.relative_to(out / "labels").with_suffix("")) for p in files_in(out / "labels")}
    assert files == drawn - {"classes"} and files <= shown
    (line,) = [s for s in (out / "README.txt").read_text().splitlines() if "_ROOT=" in s]
    words = dict(word.split("=") for word in shlex.split(line))
    assert words["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == str(out)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_picked_after_an_erasure_is_what_is_written(
    two_nights: Nights,  # noqa: F811
    tmp_path: Path,
) -> None:
    store = two_nights.copied(tmp_path / "store").store
    run = find_run(store)
    before = {p.image_id: p.part for p in pick(store, run, 99, seed=0)}
    first = min(before, key=lambda name: (before[name].name, name))
    erase(store, [first], lambda: None)
    picked = pick(store, find_run(store), 99, seed=0)
    assert {p.image_id for p in picked} == before.keys() - {first}
    (some,) = [p for p in picked if p.part.name == before[first].name][-1:]
    write_review(store, find_run(store), [some], tmp_path / "out")
    (task,) = json.loads((tmp_path / "out/label-studio.json").read_text())
    assert task["data"]["image_id"] == some.image_id
    image = store.read_table(part_file(CORPUS_DIRECTORY, some.part.name))
    image = image.filter(pc.equal(image["image_id"], some.image_id))
    (file,) = files_in(tmp_path / "out/images")
    assert file.read_bytes() == image["bytes"][0].as_py()
