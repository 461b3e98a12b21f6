"""An export goes on where it was killed, holds nothing of another one, and counts every image."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from dcsp.errors import ConfigError, StoreError
from dcsp.exports.base import Format, Record, Row
from dcsp.exports.place import Place
from dcsp.exports.registry import FORMATS
from dcsp.exports.rows import Exported
from dcsp.inspection.inventory import directory_of, find_run
from dcsp.labels import IGNORE
from dcsp.stages.step import Role
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.upkeep.erasure import erase
from tests.cli.running import dcsp
from tests.exports.conftest import Labelled, read_all, rewrite
from tests.store_fixture import LABELS, build_store


def contents(out: Path) -> dict[str, bytes]:
    """What others see of an export."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".export/")}


class Killed(BaseException):
    """In the place of a signal."""


def kill_after(patch: pytest.MonkeyPatch, made: type[Format], images: int) -> list[str]:
    """Let a format die at an image; returns the ids that it is asked to write."""
    write, asked = made.write, []

    def dying(self: Format, row: Row, place: Place) -> Record:
        if len(asked) == images:
            place.write("images/train", f"{row.image_id}-torn", b"half")
            raise Killed
        asked.append(row.image_id)
        return write(self, row, place)

    patch.setattr(made, "write", dying)
    return asked


@pytest.mark.parametrize("format_", sorted(FORMATS))
def test_a_killed_export_goes_on_to_what_it_would_have_been(
    whole: Labelled, tmp_path: Path, format_: str
) -> None:
    expected = whole.export(tmp_path / "whole", format=format_)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, FORMATS[format_], 3)
        with pytest.raises(Killed):
            whole.export(tmp_path / "killed", format=format_)
    assert not any(p.suffix in (".json", ".xml", ".yaml") for p in tmp_path.glob("killed/[a-d]*"))
    with pytest.MonkeyPatch.context() as patch:
        asked = kill_after(patch, FORMATS[format_], 99)
        assert whole.export(tmp_path / "killed", format=format_) == expected
    assert len(asked) == expected.written - 2  # what was whole: a part of two
    found = contents(tmp_path / "killed")
    assert {n: found[n] for n in found if "-torn" not in n} == contents(tmp_path / "whole")


@pytest.mark.parametrize("format_", ["coco", "hf"])
def test_the_same_again_writes_no_image(whole: Labelled, tmp_path: Path, format_: str) -> None:
    done = whole.export(tmp_path, format=format_)
    before = contents(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        asked = kill_after(patch, FORMATS[format_], 0)
        assert whole.export(tmp_path, format=format_) == done
    assert asked == [] and contents(tmp_path) == before


def test_a_part_of_which_a_file_is_gone_is_written_again(whole: Labelled, tmp_path: Path) -> None:
    whole.export(tmp_path, format="folder")
    before = contents(tmp_path)
    next(tmp_path.glob("masks/train/*.png")).unlink()
    with pytest.MonkeyPatch.context() as patch:
        asked = kill_after(patch, FORMATS["folder"], 99)
        whole.export(tmp_path, format="folder")
    assert len(asked) == 2 and contents(tmp_path) == before


def test_nothing_of_another_export_stays(whole: Labelled, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole.export(out, format="coco")
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, FORMATS["yolo"], 4)
        with pytest.raises(Killed):
            whole.export(out, format="yolo")
    assert any("-torn" in name for name in contents(out))
    for request in ({"format": "folder"}, {"format": "voc"}, {"format": "voc", "labels": "cues"}):
        whole.export(out, **request)
        plain = tmp_path / "-".join(request.values())
        whole.export(plain, **request)
        assert contents(out) == contents(plain)
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == [".export"]


def test_every_image_is_counted_once(whole: Labelled, tmp_path: Path) -> None:
    scores = sorted(i["trust"] for i in whole.images.values() if i["split"] == "train")
    least = (scores[1] + scores[2]) / 2
    kept = {n for n, i in whole.images.items() if i["split"] == "train" and i["trust"] > least}
    done = whole.export(tmp_path, "train", format="coco", min_trust=least)
    assert done == Exported(written=len(kept), untrusted=2, elsewhere=2)
    assert len(kept) + 2 + 2 == len(whole.images)
    told = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert {Path(image["file_name"]).stem for image in told["images"]} == kept
    assert {p.stem for p in (tmp_path / "images").rglob("*.png")} == kept
    assert not (tmp_path / "annotations/instances_val.json").exists()
    mark = json.loads((tmp_path / "export.json").read_text())
    assert mark["done"]["written"] == len(kept) and mark["min_trust"] == least
    assert mark["splits"] == ["train"] and mark["job"] == "dcsp export"


def test_an_image_has_the_same_number_in_every_export(whole: Labelled, tmp_path: Path) -> None:
    least = sorted(i["trust"] for i in whole.images.values())[3]
    numbers = []
    for name, min_trust in (("all", None), ("some", least)):
        whole.export(tmp_path / name, format="coco", min_trust=min_trust)
        numbers.append(
            {
                image["file_name"]: image["id"]
                for file in (tmp_path / name).glob("annotations/*.json")
                for image in json.loads(file.read_text())["images"]
            }
        )
    every, some = numbers
    assert len(some) < len(every) == len(set(every.values()))
    assert some.items() <= every.items()


def test_what_cannot_be_asked_for_is_refused(run: Labelled, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--split val: the run .* but of train"):
        run.export(tmp_path / "out", "val", labels="cues")
    with pytest.raises(ConfigError, match="--min-trust is of published labels, not of --labels"):
        run.export(tmp_path / "out", labels="cues", min_trust=0.5)
    found = find_run(run.store)
    record = {**found.record, "steps": [s for s in found.record["steps"] if s["role"] != "trust"]}
    run.store.write_json(f"runs/{found.run_id}/run.json", record)
    with pytest.raises(StoreError, match=r"The run .* has no trust: submit its job again"):
        run.export(tmp_path / "out", min_trust=0.5)
    assert not (tmp_path / "out").exists()


def test_a_name_that_cannot_be_leaves_no_image_behind(run: Labelled, tmp_path: Path) -> None:
    directory = str(directory_of(find_run(run.store), Role.PREDICTIONS))
    part = sorted(run.store.parts(directory))[0]
    corpus = part_file(CORPUS_DIRECTORY, part)
    names = run.store.read_table(corpus)["image_id"].to_pylist()
    new = ["deep/" + "x" * 300, "images/inside", *names[2:]]
    for file in (corpus, part_file(directory, part)):
        rewrite(run.store, file, image_id=new)
    for format_, suffix in (("folder", "png"), ("yolo", "txt")):
        out = tmp_path / format_
        done = run.export(out, format=format_)
        expected = run.labels().keys() - {*names[:2]}
        assert (done.written, done.unnamed) == (len(expected) + 1, 1)
        images = {p.relative_to(out / "images") for p in (out / "images").rglob("*.png")}
        masks = {
            p.relative_to(out / {"png": "masks", "txt": "labels"}[suffix]).with_suffix(".png")
            for p in out.rglob(f"*.{suffix}")
            if p.relative_to(out).parts[0] in ("masks", "labels")
        }
        assert images == masks and len(images) == done.written
    # Where YOLO looks for the text of images/train/…/inside.png
    (image,) = (tmp_path / "yolo/images").rglob("inside.png")
    before, after = str(image).rsplit("/images/", 1)
    assert Path(f"{before}/labels/{after}").with_suffix(".txt").is_file()


@pytest.mark.parametrize("linked", ["images", "images/train", "masks", "classes.json"])
def test_nothing_is_written_through_a_link(whole: Labelled, tmp_path: Path, linked: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    whole.export(out, "train", format="folder")
    before = contents(out)
    elsewhere.mkdir()
    place = out / linked
    shutil.move(place, tmp_path / "moved")
    place.symlink_to(elsewhere / "file" if "." in linked else elsewhere)
    if "." in linked:
        whole.export(out, "train", format="folder")  # a new file in the place of the link
        assert contents(out) == before
    else:
        with pytest.raises(StoreError, match=r"A link in .* outside: remove the link"):
            whole.export(out, "train", format="folder")
    assert not any(elsewhere.iterdir())


def test_images_are_written_as_their_labels_lie(run: Labelled, tmp_path: Path) -> None:
    part = sorted(run.store.parts(CORPUS_DIRECTORY))[0]
    file = part_file(CORPUS_DIRECTORY, part)
    data = run.store.read_table(file)["bytes"].to_pylist()
    with Image.open(io.BytesIO(data[0])) as opened:
        upright = np.asarray(opened.convert("RGB"))
    for index, (kind, options) in enumerate((("PNG", {"exif": turned()}), ("TIFF", {}))):
        made = io.BytesIO()
        shape = np.rot90(upright) if options else upright
        Image.fromarray(shape).save(made, kind, **options)
        data[index] = made.getvalue()
    rewrite(run.store, file, bytes=data)
    run.export(tmp_path, format="folder")
    names = run.store.read_table(file)["image_id"].to_pylist()
    for name in names[:2]:
        (path,) = (tmp_path / "images").rglob(f"{name}.*")
        with Image.open(path) as image:
            assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            assert np.array_equal(np.asarray(image.convert("RGB")), upright)


def turned() -> Image.Exif:
    """Says: turn the image by a quarter to the right."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif


def test_an_image_that_cannot_be_read_any_more_is_named(run: Labelled, tmp_path: Path) -> None:
    part = sorted(run.store.parts(CORPUS_DIRECTORY))[0]
    file = part_file(CORPUS_DIRECTORY, part)
    table = run.store.read_table(file)
    rewrite(run.store, file, bytes=[b"torn", *table["bytes"].to_pylist()[1:]])
    with pytest.raises(StoreError, match=f"image {table['image_id'][0]} cannot be read any more"):
        run.export(tmp_path, format="yolo")


def test_what_was_erased_goes_with_the_next_export(run: Labelled, tmp_path: Path) -> None:
    run.export(tmp_path / "out", format="coco")
    gone = next(iter(run.labels("train")))
    erase(run.store, [gone], lambda: None)
    run.export(tmp_path / "out", format="coco")
    assert gone.encode() not in b"".join(contents(tmp_path / "out").values())
    assert not list((tmp_path / "out").rglob(f"{gone}*"))
    left = replace(run, images=read_all(run.store))
    assert {p.stem for p in (tmp_path / "out/images").rglob("*.png")} == left.labels().keys()


def test_cues_are_written_without_distractors(run: Labelled, tmp_path: Path) -> None:
    found = find_run(run.store)
    record: Any = found.record
    directory = str(directory_of(found, Role.CUES))
    for part in run.store.parts(directory):
        rows = run.store.read_table(part_file(directory, part)).num_rows
        labels = [encode_labels(LABELS)] * rows  # has 2, a distractor
        rewrite(run.store, part_file(directory, part), label=labels, status=["ok"] * rows)
    record["config"]["corpus"] |= {
        "classes": ["cat"],
        "distractors": ["dog"],
        "distractors_are": "ignored",
    }
    run.store.write_json(f"runs/{found.run_id}/run.json", record)
    done = run.export(tmp_path, labels="cues")
    assert (done.written, done.elsewhere) == (5, 2)
    for path in tmp_path.glob("*.png"):
        label = decode_labels(path.read_bytes())
        assert np.array_equal(label, np.where(LABELS == 2, IGNORE, LABELS))
    assert "dog" not in (tmp_path / "labelmap.txt").read_text()


def test_the_command_tells_what_is_left_out_and_why(whole: Labelled, tmp_path: Path) -> None:
    store = whole.store.url
    told = dcsp("export", store, tmp_path / "a", "--format", "yolo", "--split", "train").output
    assert f"5 masks in {tmp_path / 'a'}; left out: 2 images of another split\n" in told
    told = dcsp("export", store, tmp_path / "b", "--min-trust", "1").output
    assert f"0 masks in {tmp_path / 'b'}; left out: 7 images trusted less than 1.0\n" in told
    fixture = build_store(tmp_path / "fixture")
    told = dcsp("export", fixture.url, tmp_path / "c").output
    assert f"4 masks in {tmp_path / 'c'}; left out: 1 image without a label\n" in told
