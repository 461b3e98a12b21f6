"""Labelling any folder of images with the published model."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from dcsp.capacity.resources import Resources
from dcsp.config.file import load_config
from dcsp.errors import ConfigError, CorpusError, StoreError
from dcsp.run.record import RunModel
from dcsp.store.store import Store
from dcsp.tables.layout import run_file
from jobs import _labelling, predict
from tests.jobs.running import PATIENCE, Run, call, parts, start, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def _picture(path: Path, height: int, width: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def _main(finished: Run, images: Path, out: Path, *more: str) -> None:
    predict.main([str(finished.store), "--images", str(images), "--out", str(out), *more])


def test_every_readable_image_of_a_folder_gets_a_mask(
    cluster: object, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    sizes = {"photo.jpg": (40, 56), "deep/er/photo.png": (33, 47), "grey.jpg": (48, 40)}
    sizes["anim.gif"] = (36, 52)
    for name, (height, width) in sizes.items():
        _picture(images / name, height, width, {"grey.jpg": "L", "anim.gif": "P"}.get(name, "RGB"))
    (images / "broken.jpg").write_bytes((images / "photo.jpg").read_bytes()[:200])
    (images / "notes.txt").write_text("no image")

    _main(finished, images, out, "--no-crf")

    printed = capsys.readouterr().out
    assert f"4 masks in {out}, 0 images failed, 1 rejected" in printed
    for name, size in sizes.items():
        mask = Image.open((out / name).with_suffix(".png"))
        assert mask.mode == "P" and mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0], "VOC palette"
        assert np.asarray(mask).shape == size
        assert np.asarray(mask).max() <= 6
    table = [row for file in parts(out / "predictions") for row in _rows(out, file)]
    assert {row["image_id"] for row in table} == {"photo", "deep/er/photo", "grey", "anim"}
    assert all(row["status"] == "ok" and row["areas"] for row in table)
    (rejected,) = pq.read_table(out / "rejected.parquet").to_pylist()
    assert rejected["image_id"] == "broken"
    assert rejected["reason"] == "truncated"
    masks, told = {"anim.png", "deep", "grey.png", "photo.png"}, {"predict.json", "predictions"}
    assert {path.name for path in out.iterdir()} == masks | told | {"rejected.parquet"}
    mark = json.loads((out / "predict.json").read_text())
    assert mark["run"] == finished.run_id and mark["classes"][0] == "ball"


def test_a_training_folder_is_labelled_whole_and_again(
    cluster: object, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    names = ["a", "b", "c", "predictions/d"]
    for number, name in enumerate(names):
        _picture(images / f"{name}.jpg", 40 + number, 56)
    (images / "tags.csv").write_text("image,tags,split\na,ball,val\nb,walrus,\nc,ball,train\n")

    _main(finished, images, out, "--no-crf")
    assert f"4 masks in {out}, 0 images failed, 0 rejected" in capsys.readouterr().out
    assert all((out / f"{name}.png").is_file() for name in names)
    first = set(parts(out / "predictions"))

    (images / "c.jpg").unlink()
    _main(finished, images, out, "--no-crf")
    assert f"3 masks in {out}, 0 images failed, 0 rejected" in capsys.readouterr().out
    assert (out / "predictions/d.png").is_file()
    assert len(parts(out / "predictions")) == 1 and not first & set(parts(out / "predictions"))


def test_a_network_labels_without_the_files_it_was_made_with(
    cluster: object, finished: Run, tmp_path: Path
) -> None:
    store, images = tmp_path / "store", tmp_path / "images"
    shutil.copytree(finished.store, store)
    file = run_file(finished.run_id)
    record = Store(store).read_json(file)
    record["config"]["saliency"]["detectors"][0]["model"] = str(tmp_path / "removed.onnx")
    record["config"]["network"]["weights"] = str(tmp_path / "removed.pth")
    Store(store).write_json(file, record)
    _picture(images / "photo.jpg", 40, 56)

    _main(replace(finished, store=store), images, tmp_path / "out", "--no-crf")
    assert (tmp_path / "out" / "photo.png").is_file()


def _voc_root(root: Path) -> list[str]:
    """Seven images as VOC has them, beside what are no images to label; their names."""
    names = [f"2007_{index:06}" for index in range(7)]
    for index, name in enumerate(names):
        _picture(root / "JPEGImages" / f"{name}.jpg", 40 + index, 56)
    (root / "Annotations").mkdir()
    _picture(root / "SegmentationClass" / f"{names[0]}.png", 40, 56)
    return names


def test_images_of_a_voc_root_are_labelled_and_its_masks_are_not(
    cluster: object, finished: Run, tmp_path: Path
) -> None:
    names, out = _voc_root(tmp_path / "VOC2012"), tmp_path / "out"
    _main(finished, tmp_path / "VOC2012", out, "--no-crf")
    assert sorted(path.stem for path in out.glob("*.png")) == names


@pytest.mark.slow  # a killed chain resumes: test_resume.py
def test_a_killed_job_resumes(cluster: Resources, finished: Run, tmp_path: Path) -> None:
    root, out = tmp_path / "VOC2012", tmp_path / "out"
    names = _voc_root(root)
    arguments = [finished.store, "--images", root, "--out", out, "--crf"]
    joined = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}

    def started() -> list[Path]:
        return list(out.glob(".work/predictions/*/*.parquet"))

    log = tmp_path / "log"
    process = start("predict.py", *arguments, environment=joined, log=log)
    wait_until(lambda: started() or process.poll() is not None, "the first part")
    assert process.poll() is None, log.read_text()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not list(out.glob("*.png")), "masks come at the end"
    before = {path: path.stat().st_mtime_ns for path in started()}

    again = start("predict.py", *arguments, environment=joined, log=log)
    assert again.wait(timeout=PATIENCE) == 0, log.read_text()
    assert "nothing changed in the source" in log.read_text()
    assert sorted(path.stem for path in out.glob("*.png")) == names
    assert before, "something was done before the kill"
    for path in before:
        assert (out / "predictions" / path.name).is_file()
    assert not (out / ".work").exists()
    assert sum(len(_rows(out, file)) for file in parts(out / "predictions")) == 7


def test_what_cannot_be_labelled_is_told(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"--images .*nowhere is no folder"):
        _main(finished, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(StoreError, match="tiny-none"):
        _main(finished, tmp_path, tmp_path / "out", "--run", "tiny-none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no images"):
        _main(finished, tmp_path / "empty", tmp_path / "out")


def test_no_file_of_the_user_is_replaced(finished: Run, tmp_path: Path) -> None:
    images, store = tmp_path / "images", tmp_path / "store"
    _picture(images / "cat.png", 40, 56)
    photo = (images / "cat.png").read_bytes()
    for out in (images, images / "masks"):
        with pytest.raises(ConfigError, match="--images"):
            _main(finished, images, out)
    assert (images / "cat.png").read_bytes() == photo and len(list(images.iterdir())) == 1

    shutil.copytree(finished.store, store)
    before = sorted(store.rglob("*"))
    refused = call("predict.py", store, "--images", images, "--out", store)
    assert refused.returncode == 2 and "name a folder elsewhere" in refused.stderr
    assert "Traceback" not in refused.stderr and refused.stderr.count("\n") == 1
    assert sorted(store.rglob("*")) == before

    mine = tmp_path / "out" / "predictions" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(ConfigError, match="did not write"):
        _main(finished, images, tmp_path / "out")
    assert mine.read_text() == "precious"


def _rows(out: Path, file: str) -> list[Mapping[str, object]]:
    return pq.read_table(out / "predictions" / file).to_pylist()


@pytest.mark.parametrize(
    ("trained_by", "has_ray", "labelled_by"),
    [("ray", True, "ray"), ("here", True, "here"), ("ray", False, "here"), ("here", False, "here")],
)
def test_images_are_labelled_where_the_network_was_trained_unless_ray_is_not_there(
    trained_by: str,
    has_ray: bool,
    labelled_by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_labelling, "find_spec", lambda _: object() if has_ray else None)
    config = load_config("jobs/configs/demo.yaml", [f"cluster.executor={trained_by}"])
    model = RunModel("demo-1", config, config.corpus.classes, "checkpoints/joint")
    made = _labelling.predict_config(model, tmp_path, tmp_path / "out", None)
    assert made.cluster.executor == labelled_by
