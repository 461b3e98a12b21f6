"""A corpus that has grown by one hundredth costs one hundredth of the mining."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from PIL import Image

from dcsp.corpus.sources.scenes import render_scene
from dcsp.labels import SCENE_CLASSES
from dcsp.run.retraining import plan_run
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot
from jobs import relabel
from tests.jobs.running import Run

IMAGES = 100
MINED = ("saliency", "cues_phase0", "predictions", "trust")


def paint(root: Path, numbers: range) -> None:
    """Photographs of generated scenes, with their tags."""
    root.mkdir(exist_ok=True)
    with (root / "tags.csv").open("a", newline="") as file:
        table = csv.writer(file)
        if numbers.start == 0:
            table.writerow(("image", "tags"))
        for number in numbers:
            scene = render_scene(0, number, 48, 64, 2)
            Image.fromarray(scene.image).save(root / f"{number:03d}.png")
            table.writerow(
                (f"{number:03d}.png", ";".join(SCENE_CLASSES[c - 1] for c in scene.classes))
            )


def test_one_image_more_is_one_image_of_work(config_file: Path, tmp_path: Path) -> None:
    photos, store = tmp_path / "photos", tmp_path / "store"
    paint(photos, range(IMAGES))
    settings = [f"store={store}", "cues.adapt.rounds=0", "retrain=never", "fcan.steps=2"]
    settings += ["corpus.kind=folder", f"corpus.root={photos}", "corpus.part_rows=25"]
    arguments = ["--config", str(config_file), *settings, "cluster.executor=here"]
    relabel.main(arguments)
    first = Run(store, config_file, "", "")
    before = first.run_id

    paint(photos, range(IMAGES, IMAGES + 1))
    (photos / "007.png").unlink()
    relabel.main(arguments)
    assert first.run_id != before
    run = json.loads((first.directory / "run.json").read_text())
    manifests = {name: manifest_of(first, run, name) for name in MINED}
    assert {name: found["computed"] for name, found in manifests.items()} == dict.fromkeys(MINED, 1)
    assert {sum(found["rows"].values()) for found in manifests.values()} == {IMAGES}
    computed = sum(found["computed"] for found in manifests.values())
    assert computed <= 0.02 * sum(sum(found["rows"].values()) for found in manifests.values())
    made = {step["title"]: step["computed"] for step in run["steps"]}
    assert made == dict.fromkeys(MINED, True) | {"fcan": False, "joint_phase0": False}
    assert run["learned"] != run["snapshot"]
    check_policies(first, settings, Snapshot.load(Store(store), run["snapshot"]))


def manifest_of(run: Run, record: dict[str, Any], title: str) -> dict[str, Any]:
    """What the last submission wrote about a table."""
    (directory,) = (step["directory"] for step in record["steps"] if step["title"] == title)
    files = (run.store / directory).glob("complete-*.json")
    newest = max(files, key=lambda file: file.stat().st_mtime_ns)
    return dict(json.loads(newest.read_text()))


def check_policies(run: Run, settings: list[str], snapshot: Snapshot) -> None:
    """What other policies would do with a hundredth of new images."""
    for policy, trains in {
        "retrain=every": True,
        "retrain=0.02": False,
        "retrain=0.005": True,
        "retrain=never": False,
    }.items():
        config = run.config(*settings, policy)
        plan = plan_run(Store(run.store), config, snapshot)
        assert (plan.learned == snapshot) == trains, policy
    changed = run.config(*settings, "fcan.steps=3")
    assert plan_run(Store(run.store), changed, snapshot).learned == snapshot, "trained on all"
