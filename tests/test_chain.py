"""The whole chain, in process: statuses, the paper's rule, and who may look at ground truth."""

from __future__ import annotations

import io
import json
import math
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcsp.config import RunConfig
from dcsp.cues.adapt import AdaptStage
from dcsp.cues.fusion import adapt_labels
from dcsp.errors import StoreError
from dcsp.evaluation.run import Evaluator, add_qualities
from dcsp.images import decode_rgb
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.pipeline import Plan, build_plan
from dcsp.report.collect import gallery_items
from dcsp.runs import current_run, load_run, publish, report_file, run_directory
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.mapping import CORPUS_DIRECTORY, part_file, run_parts_here
from dcsp.tables.snapshot import rejected_file
from dcsp.tables.store import Store
from dcsp.training.stage import TrainStage, load_checkpoint
from dcsp.verify import verify_store
from tests import chain
from tests.chain import CORRUPT, UNTAGGED, table

GAMMA = 0.3  # of chain_config


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    store: Store
    plan: Plan
    metrics: dict[str, Any]
    config: RunConfig


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread adds numbers up in one order: equal inputs give equal bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chain.write_detector(tmp_path_factory.mktemp("detector") / "brightness.onnx")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, detector: str, one_thread: None) -> Done:
    store = tmp_path_factory.mktemp("chain") / "store"
    config = chain.chain_config(store, detector)
    plan = chain.compute(config, chain.ingest(config))
    return Done(Store(store), plan, chain.evaluate(plan), config)


# --- rows -----------------------------------------------------------------------------------------


def test_every_image_has_one_row_in_every_table(done: Done) -> None:
    expected = sorted(f"train_{number:06d}" for number in range(6))
    for step in done.plan:
        if not isinstance(step.stage, TrainStage):
            assert sorted(table(done.plan, step.title)) == expected, step.title
    assert len(table(done.plan, "predictions", ("train", "val"))) == 8


@pytest.mark.parametrize("title", ["cues_phase0", "cues_phase1", "cues_soft"])
def test_cues_of_untagged_images_are_skipped_and_those_of_bad_ones_are_errors(
    done: Done, title: str
) -> None:
    rows = table(done.plan, title)
    statuses = {image_id: row["status"] for image_id, row in rows.items()}
    assert statuses.pop(UNTAGGED) == "skipped" and rows[UNTAGGED]["label"] is None
    assert statuses.pop(CORRUPT) == "error" and rows[CORRUPT]["label"] is None
    assert set(statuses.values()) == {"ok"}
    assert "unreadable: " in rows[CORRUPT]["error"] and rows[UNTAGGED]["error"] is None
    for row in rows.values():
        assert (row["phase"], row["method"]) == ((1, "adapt") if title[-1] == "1" else (0, "dcsp"))


def test_saliency_and_predictions_need_no_tags(done: Done) -> None:
    for title, content in (("saliency", "maps"), ("predictions", "label")):
        rows = table(done.plan, title)
        assert rows[UNTAGGED]["status"] == "ok" and rows[UNTAGGED][content]
        assert rows[CORRUPT]["status"] == "error" and not rows[CORRUPT][content]
        assert rows[CORRUPT]["error"].startswith("unreadable: ")


def test_labels_are_class_ids_of_the_images_size_that_pillow_reads(done: Done) -> None:
    for title in ("cues_phase0", "cues_phase1", "cues_soft", "predictions"):
        for row in table(done.plan, title).values():
            if row["status"] != "ok":
                continue
            with Image.open(io.BytesIO(row["label"])) as image:
                ids = set(np.unique(np.array(image)).tolist())
                assert (image.height, image.width) == (row["height"], row["width"]) == (48, 64)
            allowed = set(range(7)) if title == "predictions" else {0, *row["tags"]}
            assert ids <= (allowed | {255} if title == "cues_soft" else allowed), title


def test_areas_of_predictions_cover_the_image(done: Done) -> None:
    for row in table(done.plan, "predictions", ("train", "val")).values():
        if row["status"] == "ok":
            label = decode_labels(row["label"])
            areas = {area["class"]: area["pixels"] for area in row["areas"]}
            assert areas == {i: int((label == i).sum()) for i in np.unique(label)}
            assert all(0 < area["confidence"] <= 1 for area in row["areas"])


def test_hierarchical_saliency_only_grows(done: Done) -> None:
    gained = 0
    for row in table(done.plan, "saliency").values():
        if row["status"] == "ok":
            first, second, third = map(decode_map, row["maps"])
            assert first.shape == (32, 32)
            assert (second >= first).all() and (third >= second).all()
            gained += int((third > first).sum())
    assert gained  # or the tests of S_1 against S_3 would test nothing


# --- Algorithm 1 ----------------------------------------------------------------------------------


def rule(row: dict[str, Any], saliency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Method 1.4 and 1.5 pixel by pixel from stored maps; and where rounding cannot decide."""
    height, width = row["height"], row["width"]
    attention = chain.upsample(
        decode_maps(row["attention"], row["attention_shape"]).astype(float), height, width, True
    )
    low = attention.min(axis=(1, 2), keepdims=True)
    span = attention.max(axis=(1, 2), keepdims=True) - low
    attention = np.where(span > 0, (attention - low) / np.where(span > 0, span, 1), 0)
    s = chain.upsample(saliency[None].astype(float), height, width, False)
    both = attention + s
    means = np.where(both > 0, 2 * attention * s / np.where(both > 0, both, 1), 0)
    label = np.where(means.max(0) < GAMMA, 0, np.array(row["tags"])[means.argmax(0)])
    top = np.sort(np.concatenate([means, np.zeros_like(means[:1])]), axis=0)
    sure = (abs(top[-1] - GAMMA) > 1e-5) & ((top[-1] - top[-2] > 1e-5) | (label == 0))
    return label, sure


def test_the_papers_rule_on_the_stored_attention_gives_the_cue(done: Done) -> None:
    saliency = table(done.plan, "saliency")
    pixels = disagreements = foreground = 0
    for image_id, row in table(done.plan, "cues_phase0").items():
        if row["status"] != "ok":
            continue
        cue = decode_labels(row["label"])
        assert row["foreground"] == pytest.approx(float((cue > 0).mean()), abs=1e-6)
        third, sure = rule(row, decode_map(saliency[image_id]["maps"][2]))
        np.testing.assert_array_equal(cue[sure], third[sure])
        first, _ = rule(row, decode_map(saliency[image_id]["maps"][0]))
        pixels += int(sure.sum())
        foreground += int((cue > 0).sum())
        disagreements += int((first != third).sum())
    assert pixels > 0.99 * 4 * 48 * 64 and foreground and disagreements


def test_the_cue_of_s1_is_measured_from_the_same_attention(done: Done) -> None:
    saliency, cues = table(done.plan, "saliency"), table(done.plan, "cues_phase0")
    truth = {
        row["image_id"]: row["label"]
        for part in done.plan.snapshot.parts
        for row in done.store.read_table(str(part.truth)).to_pylist()
    }
    for key, number in (("miou_s1", 0), ("miou", 2)):
        matrix = np.zeros((7, 8), int)
        for image_id, row in cues.items():
            if row["status"] == "skipped":
                continue
            found = np.full((48, 64), 7)  # a failed image finds nothing
            if row["status"] == "ok":
                found = rule(row, decode_map(saliency[image_id]["maps"][number]))[0]
            np.add.at(matrix, (decode_labels(truth[image_id]), found), 1)
        hits, square = np.diag(matrix[:, :7]), matrix[:, :7]
        union = matrix.sum(1) + square.sum(0) - hits
        expected = 100 * np.mean(hits[union > 0] / union[union > 0])
        assert done.metrics["cues"]["phase0"][key] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("opinions", ["as trained", "strong"])
def test_adapted_cues_are_the_networks_argmax_among_the_tags(
    done: Done, tmp_path: Path, opinions: str
) -> None:
    """Method 1.6: without a CRF and at one scale, an absent class never stands in the way."""
    stage, store = done.plan.step("cues_phase1").stage, done.store
    parts = done.plan.snapshot.of(["train"])
    assert isinstance(stage, AdaptStage)
    if opinions == "strong":  # two steps of training leave background everywhere
        store = chain.opinionated(done.store, stage.network.directory, tmp_path / "store")
        run_parts_here(store, stage, parts)
    settings, precision = done.config.cues.adapt, done.config.precision
    network = load_checkpoint(store, stage.network.directory, SegmentationNetwork)
    network = prepare(network, precision, "cpu")
    views = Views("scores", settings.scales, settings.flip)
    tagged: set[int] = set()
    absent: set[int] = set()
    for part in parts:
        stored = store.read_table(part_file(stage.key.directory, part.name)).to_pylist()
        corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name)).to_pylist()
        seen = [(new, old) for new, old in zip(stored, corpus, strict=True) if new["label"]]
        images = [decode_rgb(image["bytes"]) for _, image in seen]
        found = score_views(network, images, views, max_side=None, precision=precision)
        for (row, image), exact in zip(seen, found, strict=True):
            scores = exact.astype(np.float16).astype(np.float32)  # as they travel
            label = decode_labels(row["label"])
            expected = adapt_labels(scores, image["tags"], image["height"], image["width"])
            np.testing.assert_array_equal(label, expected)
            tagged |= {int(i) for i in np.unique(label)}
            absent |= {int(i) for i in np.unique(scores.argmax(0))} - {0, *image["tags"]}
    assert opinions == "as trained" or (len(tagged) > 2 and absent)


# --- metrics, runs and report ---------------------------------------------------------------------


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
    assert set(metrics["seconds"]) == {step.title for step in done.plan}
    assert metrics["rows"]["saliency"] == {"ok": 5, "skipped": 0, "error": 1}
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
        assert step.is_done(done.store, done.plan.snapshot), step.title
        if not isinstance(step.stage, TrainStage):
            assert run_parts_here(done.store, step.stage, step.parts(done.plan.snapshot)) == []


def computed(config: RunConfig, done: Done) -> tuple[list[str], Plan]:
    """Which steps another run over the same corpus had to do, and its plan."""
    before = build_plan(config, done.plan.snapshot)
    missing = [s.title for s in before if not s.is_done(done.store, done.plan.snapshot)]
    return missing, chain.compute(config, done.plan.snapshot)


def test_a_run_with_other_settings_does_what_they_decide(done: Done, detector: str) -> None:
    cues = done.config.cues.model_dump(mode="json") | {"adapt": {"rounds": 0}, "compare": {}}
    predict = {"scales": [1], "crf": False, "splits": ["val"]}
    missing, plan = computed(
        chain.chain_config(done.store.url, detector, cues=cues, predict=predict), done
    )
    assert missing == ["predictions"]
    metrics = chain.evaluate(plan)
    assert current_run(done.store) == plan.run_id != done.plan.run_id
    assert set(metrics["cues"]) == {"phase0"} and "train" not in metrics
    assert metrics["cues"]["phase0"]["miou"] == done.metrics["cues"]["phase0"]["miou"]
    assert metrics["val"]["miou_crf"] is None and metrics["val"]["miou"] is not None
    assert metrics["rows"]["predictions"] == {"ok": 2, "skipped": 0, "error": 0}
    publish(done.store, done.plan.run_id)


def test_a_corpus_without_ground_truth_is_labelled_and_not_measured(done: Done) -> None:
    parts = tuple(replace(part, truth=None) for part in done.plan.snapshot.parts)
    snapshot = replace(done.plan.snapshot, parts=parts)
    rejected = done.store.read_bytes(rejected_file(done.plan.snapshot.fingerprint))
    done.store.write_bytes(rejected_file(snapshot.fingerprint), rejected)
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
        [evaluator(part) for part in done.plan.snapshot.parts if part.split == split]
        for split in ("train", "val")
    )
    cues = {"cues_soft", "cues_phase0", "cues_phase0_s1", "cues_phase1"}
    assert all(set(found) == {*cues, "train", "train_crf"} for found in train)
    assert all(set(found) == {"val", "val_crf"} for found in val)
    total = add_qualities(train[0], train[1])
    assert total["cues_phase0"].images == sum(found["cues_phase0"].images for found in train) == 5
    assert total["cues_phase0"].without_label == 1 and total["cues_phase0"].failed == 1
    assert evaluator(replace(done.plan.snapshot.parts[0], truth=None)) == {}


@pytest.mark.parametrize(("gallery", "train", "val"), [(0, 0, 0), (3, 2, 1), (30, 6, 2)])
def test_the_gallery_shows_both_splits(done: Done, gallery: int, train: int, val: int) -> None:
    report = done.config.report.model_copy(update={"gallery": gallery})
    shown = replace(done.plan, config=done.config.model_copy(update={"report": report}))
    items = list(gallery_items(done.store, shown))
    assert [item.split for item in items] == ["train"] * train + ["val"] * val
    for item in items:
        if item.split == "train" and item.image_id not in (CORRUPT, UNTAGGED):
            assert list(item.saliency) == ["S_1", "S_3"] and item.attention is not None
            assert list(item.cues) == ["cue 0", "cue 1"] and item.error is None
        assert (item.prediction is None) == (item.image_id == CORRUPT)
        assert item.truth is not None and item.image.shape == (48, 64, 3)
    assert {item.image_id for item in items if item.error} <= {CORRUPT}
    assert gallery != 30 or any(item.error for item in items)


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
        if isinstance(step.stage, TrainStage):
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
