"""Metrics, runs and reports of a whole run, in process, and who may look at ground truth."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcsp.config import RunConfig
from dcsp.errors import StoreError
from dcsp.evaluation.run import Evaluator, add_qualities
from dcsp.inspection.verify import verify_store
from dcsp.labels import SCENE_CLASSES
from dcsp.report.choice import choose
from dcsp.report.collect import earlier
from dcsp.report.data import Card
from dcsp.report.images import CardReader
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import load_run, publish
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import (
    catalogue_file,
    current_run,
    metrics_file,
    part_file,
    rejected_file,
    report_file,
    run_directory,
)
from jobs._chain import Chain
from tests import chain
from tests.chain import CORRUPT, UNTAGGED
from tests.whole_chain.conftest import Done


def test_metrics_hold_what_others_rely_on(done: Done) -> None:
    metrics = done.store.read_json(f"{run_directory(done.plan.run_id)}/metrics.json")
    assert metrics == json.loads(json.dumps(done.metrics))
    cues = metrics["cues"]
    percentages = [cues["phase0"][key] for key in ("miou", "miou_s1", "coverage")]
    percentages += [cues["phase1"]["miou"], cues["soft"]["miou"]]
    percentages += [metrics["val"]["miou"], metrics["val"]["miou_crf"], metrics["train"]["miou"]]
    assert all(0 <= value <= 100 and math.isfinite(value) for value in percentages)
    assert list(metrics["val"]["per_class"])[:2] == ["background", "ball"]
    assert metrics["val"]["images"] == 2 and metrics["train"]["failed"] == 1
    assert set(metrics["seconds"]) == {*(step.title for step in done.plan), "evaluation"}
    assert metrics["rows"]["saliency"] == {"ok": 7, "skipped": 0, "error": 1}
    assert metrics["rows"]["cues"] == metrics["rows"]["cues_phase0"]
    assert metrics["rows"]["cues"] == {"ok": 4, "skipped": 1, "error": 1}
    assert metrics["rows"]["predictions"] == {"ok": 7, "skipped": 0, "error": 1}
    assert metrics["rows"]["corpus"] == {"ok": 8, "skipped": 0, "error": 0}


def test_a_run_is_published_and_found_again(done: Done) -> None:
    assert current_run(done.store) == done.plan.run_id
    run, plan = load_run(done.store)
    assert plan.run_id == run["run_id"] == done.plan.run_id and plan.config == done.config
    assert run["model"] == done.plan.model.key.directory
    assert {"dcsp", "torch", "python"} <= set(run["versions"])
    assert all(step["computed"] for step in run["steps"])


def test_a_run_of_other_fingerprints_is_told(done: Done) -> None:
    file = f"{run_directory(done.plan.run_id)}/run.json"
    kept = done.store.read_bytes(file)
    run = done.store.read_json(file)
    run["steps"][1]["fingerprint"] = "0" * 20
    done.store.write_json(file, run)
    try:
        with pytest.raises(StoreError, match=r"The stage fcan of the run .* another fingerprint"):
            load_run(done.store)
    finally:
        done.store.write_bytes(file, kept)


def test_the_report_shows_images_that_do_not_decode(done: Done) -> None:
    page = done.store.read_bytes(report_file(done.plan.run_id)).decode()
    assert page.startswith("<!DOCTYPE html>") or page.startswith("<!doctype html>")
    for words in (CORRUPT, "unreadable", UNTAGGED, "S_1", "ground truth", done.plan.run_id):
        assert words in page, words


def test_the_same_request_does_nothing(done: Done) -> None:
    for step in done.plan:
        assert done.plan.is_done(done.store, step), step.title
        if not step.stage.learns:
            assert done.plan.left(done.store, step) == 0


def computed(config: RunConfig, done: Done) -> tuple[list[str], Plan]:
    """Which steps another run over the same corpus had to do, and its plan."""
    before = build_plan(config, done.plan.snapshot)
    missing = [s.title for s in before if not before.is_done(done.store, s)]
    return missing, chain.compute(config, done.plan.snapshot)


def test_a_run_with_other_settings_does_what_they_decide(done: Done, detector: str) -> None:
    cues = done.config.cues.model_dump(mode="json") | {"adapt": {"rounds": 0}, "compare": {}}
    predict = {"scales": [1], "crf": False, "splits": ["val"]}
    missing, plan = computed(
        chain.chain_config(done.store.url, detector, cues=cues, predict=predict), done
    )
    assert missing == ["predictions", "trust"]
    metrics = chain.evaluate(plan)
    assert current_run(done.store) == plan.run_id != done.plan.run_id
    assert set(metrics["cues"]) == {"phase0"} and "train" not in metrics
    assert metrics["cues"]["phase0"]["miou"] == done.metrics["cues"]["phase0"]["miou"]
    assert metrics["val"]["miou_crf"] is None and metrics["val"]["miou"] is not None
    assert metrics["rows"]["predictions"] == {"ok": 2, "skipped": 0, "error": 0}
    publish(done.store, done.plan.run_id)
    old, new = (
        np.stack(
            [decode_labels(row["label"]) for row in chain.table(p, "predictions", ["val"]).values()]
        )
        for p in (done.plan, plan)
    )
    told = metrics["against"]
    per_class = told.pop("per_class")
    assert told == {
        "run": done.plan.run_id,
        "images": 2,
        "images_changed": int((old != new).any(axis=(1, 2)).sum()),
        "images_new": 0,
        "images_gone": 6,
        "pixels": old.size,
        "pixels_changed": int((old != new).sum()),
        "changed_share": round(float((old != new).mean()), 6),
    }
    for number, name in enumerate(("background", *SCENE_CLASSES)):
        sums = [int((labels == number).sum()) for labels in (old, new)]
        both = int(((old == number) & (new == number)).sum())
        assert per_class[name] == {"before": sums[0], "after": sums[1], "both": both}
    shares = dict(
        zip(
            chain.table(plan, "predictions", ["val"]),
            (old != new).mean(axis=(1, 2)).tolist(),
            strict=True,
        )
    )
    cards = {card.image_id: card for card in cards_of(plan, metrics) if card.split == "val"}
    assert {id_: card.changed or 0.0 for id_, card in cards.items()} == pytest.approx(shares)
    for id_, share in shares.items():
        titles = {layer.title for layer in cards[id_].layers}
        assert ({"published before", "changed"} <= titles) == (share > 0)


def test_a_run_that_ended_before_is_compared_again_where_another_is_published_now(
    done: Done,
) -> None:
    made = Chain(done.config)
    other = build_plan(done.config.model_copy(update={"name": "between"}), done.plan.snapshot)
    try:
        for run in (other, done.plan):
            made.computed = {step.title: False for step in run}
            made.record(run)
        assert done.store.read_json(metrics_file(done.plan.run_id))["against"] is None
        publish(done.store, other.run_id)
        made.finish(done.plan)
        told = done.store.read_json(metrics_file(done.plan.run_id))["against"]
        assert (told["run"], told["changed_share"]) == (other.run_id, 0.0)
        page = done.store.read_bytes(report_file(done.plan.run_id)).decode()
        assert f"Against the run {other.run_id}" in page
    finally:
        publish(done.store, done.plan.run_id)
        done.store.remove(run_directory(other.run_id))
        done.store.write_json(metrics_file(done.plan.run_id), done.metrics)


def test_a_published_run_that_cannot_be_read_stops_no_run(
    done: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done.metrics["against"] is None  # the first run of a store
    config = done.config.model_copy(update={"name": "other"})
    other = build_plan(config, done.plan.snapshot)
    made = Chain(config)
    made.computed = {step.title: False for step in other}
    try:
        for current in ("of-long-ago", "../outside", ""):
            done.store.write_bytes("CURRENT", current.encode())
            made.record(other)
            metrics = done.store.read_json(metrics_file(other.run_id))
            assert metrics["against"] is None and metrics["val"]["miou"] is not None
            told = [line for line in capsys.readouterr().err.splitlines() if "what changed" in line]
            assert len(told) == bool(current) and all(current in line for line in told)
            done.store.remove(run_directory(other.run_id))
    finally:
        publish(done.store, done.plan.run_id)


def test_a_corpus_without_ground_truth_is_labelled_and_not_measured(done: Done) -> None:
    parts = tuple(replace(part, truth=None) for part in done.plan.snapshot.parts)
    snapshot = replace(done.plan.snapshot, parts=parts)
    for file in (rejected_file, catalogue_file):
        table = done.store.read_table(file(done.plan.snapshot.fingerprint))
        done.store.write_table(file(snapshot.fingerprint), table)
    snapshot.save(done.store)
    plan = chain.compute(done.config, snapshot)
    assert outputs(plan) == outputs(done.plan)
    metrics = chain.evaluate(plan)
    assert metrics["cues"]["phase0"]["miou"] is metrics["cues"]["phase0"]["miou_s1"] is None
    assert metrics["val"]["miou"] is None and metrics["val"]["per_class"] == {}
    assert metrics["rows"] == done.metrics["rows"]
    page = done.store.read_bytes(report_file(plan.run_id)).decode()
    assert CORRUPT in page
    publish(done.store, done.plan.run_id)


def test_evaluation_adds_up_part_by_part(done: Done) -> None:
    evaluator = pickle.loads(pickle.dumps(Evaluator(done.store, done.plan)))
    train, val = (
        [evaluator(part).qualities for part in evaluator.parts if part.split == split]
        for split in ("train", "val")
    )
    cues = {"cues_soft", "cues_phase0", "cues_phase0_s1", "cues_phase1"}
    assert all(set(found) == {*cues, "train", "train_published"} for found in train)
    assert all(set(found) == {"val", "val_crf", "val_published"} for found in val)
    total = add_qualities(train[0], train[1])
    assert total["cues_phase0"].images == sum(found["cues_phase0"].images for found in train) == 5
    assert total["cues_phase0"].without_label == 1 and total["cues_phase0"].failed == 1
    blind = evaluator(replace(done.plan.snapshot.parts[0], truth=None))
    assert blind.qualities == {} and blind.trust is not None and blind.trust.images > 0
    assert not len(blind.trust.of_images)


def cards_of(plan: Plan, metrics: dict[str, Any]) -> list[Card]:
    """The images of the report of a run."""
    store = Store(plan.config.store)
    chosen = choose(store, plan)
    return CardReader(store, plan, earlier(store, plan, metrics, chosen)).cards(chosen)


@pytest.mark.parametrize(("gallery", "train", "val"), [(0, 0, 0), (3, 2, 1), (30, 6, 2)])
def test_the_report_lists_all_images_and_some_of_both_splits_in_full(
    done: Done, gallery: int, train: int, val: int
) -> None:
    report = done.config.report.model_copy(update={"gallery": gallery})
    shown = replace(done.plan, config=done.config.model_copy(update={"report": report}))
    for split, count in (("train", train), ("val", val)):
        chosen = [of_part for of_part in choose(done.store, shown) if of_part.part.split == split]
        assert sum(len(of_part.full) for of_part in chosen) == count
    cards = cards_of(shown, done.metrics)
    assert len(cards) == (8 if gallery else 0)
    scores = [card.trust for card in cards if card.trust is not None]
    assert scores == sorted(scores) and len(scores) == max(0, len(cards) - 1)
    in_full = [card for card in cards if "network" in {layer.title for layer in card.layers}]
    assert len(in_full) in (train + val, train + val - 1)  # the corrupt one has no labels
    for card in cards:
        titles = [layer.title for layer in card.layers]
        assert (card.error is not None) == (card.image_id == CORRUPT) == ("published" not in titles)
        assert titles[0] == "image" and "ground truth" in titles
        assert {(layer.height, layer.width) for layer in card.layers} == {(48, 64)}
        assert card.changed is None and (card.iou is None) == (card.image_id == CORRUPT)
        if card in in_full and card.split == "train" and card.image_id != UNTAGGED:
            names = [SCENE_CLASSES[tag - 1] for tag in card.tags]
            assert titles == [
                "image", "published", "ground truth", "network", "cue 0", "cue 1", "S_1", "S_3",
                *(f"attention, {name}" for name in names),
            ]  # fmt: skip


def test_a_part_is_read_once_for_images_of_both_sizes(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = done.config.report.model_copy(update={"gallery": 3})
    plan = replace(done.plan, config=done.config.model_copy(update={"report": report}))
    chosen = choose(done.store, plan)
    assert any(of_part.full and of_part.others for of_part in chosen)
    read: list[str] = []
    read_table = Store.read_table
    monkeypatch.setattr(
        Store, "read_table", lambda s, name, *a: (read.append(name), read_table(s, name, *a))[1]
    )
    cards = CardReader(done.store, plan).cards(chosen)
    assert len(cards) == 8 and read and max(Counter(read).values()) == 1


def test_the_store_is_whole(done: Done) -> None:
    found = verify_store(done.store)
    assert found.problems == [] and found.checkpoints == 3
    for step in done.plan:
        assert done.store.read_json(f"{step.stage.key.directory}/stage.json")["stage"]
    assert found.parts >= 3 + 3 + 2 * 4 + 3  # corpus, truth, saliency and cues, predictions


# --- ground truth ---------------------------------------------------------------------------------


def outputs(done_plan: Plan) -> dict[str, bytes]:
    """Every byte that training, mining and prediction leave, but clocks and event logs."""
    store = Store(done_plan.config.store)
    found: dict[str, bytes] = {}
    for step in done_plan:
        directory = step.stage.key.directory
        if step.stage.learns:
            names = [
                f"{directory}/{n}" for n in ("model.safetensors", "model.json", "history.json")
            ]
        else:
            names = [part_file(directory, part.name) for part in step.parts(done_plan.snapshot)]
        found |= {name: store.read_bytes(name) for name in names}
    return found


@pytest.mark.parametrize("truth", ["deleted", "shuffled"])
def test_ground_truth_decides_nothing_but_figures(
    done: Done, tmp_path: Path, detector: str, truth: str
) -> None:
    config = chain.chain_config(tmp_path / "store", detector)
    snapshot = chain.ingest(config, shuffled=truth == "shuffled")
    if truth == "deleted":
        shutil.rmtree(tmp_path / "store/truth")
    plan = chain.compute(config, snapshot)
    ours, theirs = outputs(done.plan), outputs(plan)
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    if truth == "deleted":
        with pytest.raises(StoreError, match="has no truth/"):
            chain.evaluate(plan)
    else:
        assert plan.run_id != done.plan.run_id  # its figures are others
        metrics = chain.evaluate(plan)
        assert metrics["val"]["miou"] != done.metrics["val"]["miou"]
        assert metrics["cues"]["phase0"]["miou"] != done.metrics["cues"]["phase0"]["miou"]
