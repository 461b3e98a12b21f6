"""The tables of a whole run, in process: statuses, the paper's rule, adaptation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcsp.cues.adapt import AdaptStage
from dcsp.cues.fusion import adapt_labels
from dcsp.images.decode import decode_rgb
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.run.here import Here
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from tests import chain
from tests.chain import CORRUPT, UNTAGGED, table
from tests.whole_chain.conftest import Done

GAMMA = 0.3  # of chain_config


def test_every_image_has_one_row_in_every_table(done: Done) -> None:
    expected = sorted(f"train_{number:06d}" for number in range(6))
    for step in done.plan:
        if not step.stage.learns:
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
        stage.compute(Here(use_gpu=False), store, parts, "again")
    settings, precision = done.config.cues.adapt, done.config.precision
    network = load_checkpoint(store, stage.network.directory, SegmentationNetwork)
    network = prepare(network, precision, "cpu")
    views = Views.of(settings)
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
