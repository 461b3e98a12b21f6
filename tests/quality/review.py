"""Whether correcting the images that ``dcsp review`` picks helps more than correcting random ones.

    python -m tests.quality.review STORE --seeds 0 1 2 [--budget 30] [--work DIR] [KEY=VALUE …]

STORE has finished runs of these seeds whose training images have masks; it is copied and never
written to. For each seed, the true masks of the picked images, and of as many random ones, are
corrections, and the next round is run: joint training on phase 0, then the cues of the last phase.
Printed is the mIoU of these cues over all training images, over those that neither choice
corrected, and over all with the corrections in their place: with all of them, which is what is
published, and with the half that is learned from. KEY=VALUE changes the config of the run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.config.file import override_tree, parse_config
from dcsp.evaluation.quality import Quality, evaluate_labels
from dcsp.evaluation.truth import read_truth
from dcsp.inspection.inventory import Run, runs
from dcsp.review.pick import pick
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import live_rows
from dcsp.stages.step import Role
from dcsp.store.lease import LEASE
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import SKIPPED
from dcsp.tables.snapshot import TRAIN, Snapshot
from jobs._chain import Chain

MEASURES = {
    "with_corrections": "cues of all training images, corrections in their place",
    "learned_from": "what the next training learns from: cues, and a half of the corrections",
    "all": "cues as they are mined, of all training images",
    "uncorrected": "of those that neither choice corrected",
}
"""What is measured → in words, for the last lines."""


def main() -> None:
    """Compare for each seed, then in the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--work", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp(prefix="review-"))
    if not (work / "store").exists():
        shutil.copytree(asked.store, work / "store", ignore=shutil.ignore_patterns(f"{LEASE}*"))
    store = Store(str(work / "store"))
    found = []
    for seed in asked.seeds:
        run = next(r for r in runs(store) if r.record["config"]["seed"] == seed and r.metrics)
        found.append(compare(store, run, asked.budget, work, asked.overrides))
        print(json.dumps({"seed": seed, **found[-1]}), flush=True)
    for name, told in MEASURES.items():
        gains = [f["picked"][name] - f["random"][name] for f in found]
        each = ", ".join(f"{gain:+.2f}" for gain in gains)
        print(f"picked − random, {told}: {np.mean(gains):+.2f} ± {np.std(gains):.2f} ({each})")


def compare(
    store: Store, run: Run, budget: int, work: Path, overrides: Sequence[str]
) -> dict[str, dict[str, float]]:
    """mIoU in percent of the cues of the last phase: without corrections, picked, random."""
    snapshot = Snapshot.load(store, run.record["snapshot"])
    seed = run.record["config"]["seed"]
    chosen = {"picked": None, "random": seed}
    names: dict[str, set[str]] = {}
    for kind, by in chosen.items():
        folder = work / f"{kind}-{seed}"
        names[kind] = _write_masks(store, snapshot, pick(store, run, budget, by), folder)
    either = names["picked"] | names["random"]
    found = {}
    for kind in ("before", *chosen):
        places = [] if kind == "before" else [str(work / f"{kind}-{seed}")]
        plan = _next_round(store, run, snapshot, places, overrides)
        corrected = names.get(kind, set())
        found[kind] = {
            "all": _miou(store, plan, set(), set()),
            "uncorrected": _miou(store, plan, either, set()),
            "with_corrections": _miou(store, plan, set(), corrected),
            "learned_from": _miou(store, plan, set(), _learned(store, plan)),
        }
    return found


def _write_masks(store: Store, snapshot: Snapshot, picked: Sequence[Any], folder: Path) -> set[str]:
    """True masks as a folder of corrections; the ids of their images."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {part.name: part for part in snapshot.parts}
    names = set()
    for item in picked:
        part = parts[item.part.name]
        truth = read_truth(store, part, snapshot.masks)
        masks = truth.filter(pc.equal(truth["image_id"], item.image_id))["label"] if truth else []
        for label in masks:
            if label.is_valid:
                path = folder / f"{item.image_id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(label.as_py())
                names.add(item.image_id)
    return names


def _next_round(
    store: Store, run: Run, snapshot: Snapshot, places: Sequence[str], overrides: Sequence[str]
) -> Plan:
    """Run all that the cues of the last phase need; what does not change is there."""
    tree = json.loads(json.dumps(run.record["config"]))
    tree |= {"store": store.url, "corrections": places, "publish": "never"}
    tree["cluster"] |= {"executor": "here"}
    config = parse_config(override_tree(tree, overrides))
    whole = build_plan(config, snapshot)
    plan = whole.until(whole.cue_steps[-1].title)
    made = Chain(plan.config)
    for step in plan:
        made.run(plan, step)
    return plan


def _learned(store: Store, plan: Plan) -> set[str]:
    """Ids of the images whose correction trainings learn from."""
    tables = [step.stage.key.directory for step in plan.of(Role.CORRECTIONS)]
    parts = plan.snapshot.of([TRAIN])
    rows = [store.read_table(part_file(table, part.name)) for table in tables for part in parts]
    return {
        image_id
        for table in rows
        for image_id in table.filter(pc.is_valid(table["train"]))["image_id"].to_pylist()
    }


def _miou(store: Store, plan: Plan, without: Set[str], pinned: Set[str]) -> float:
    """Of the last cues on training images.

    Args:
        store: The store.
        plan: What was run.
        without: Ids of images that are left out.
        pinned: Ids of images whose correction stands in the place of their cue.
    """
    classes, last = len(plan.config.corpus.classes), plan.cue_steps[-1]
    total = Quality.empty(classes)
    for part in plan.snapshot.parts:
        truth = read_truth(store, part, plan.snapshot.masks)
        if part.split != TRAIN or truth is None:
            continue
        truth = live_rows(truth, part.dead)
        file = part_file(last.stage.key.directory, part.name)
        cues = live_rows(store.read_table(file), part.dead)
        ids = cues["image_id"].to_pylist()
        statuses = zip(ids, truth["status"].to_pylist(), strict=True)
        told = [SKIPPED if image_id in without else status for image_id, status in statuses]
        masks, labels = truth["label"].to_pylist(), cues["label"].to_pylist()

        def labeller(
            row: int, ids: Any = ids, masks: Any = masks, labels: Any = labels
        ) -> NDArray[np.uint8]:
            return decode_labels(masks[row] if ids[row] in pinned else labels[row])

        place = truth.column_names.index("status")
        truth = truth.set_column(place, "status", [told])
        total += evaluate_labels(cues, truth, classes, labeller)
    return round(float(total.matrix.mean_iou()), 3)


if __name__ == "__main__":
    main()
