"""The sheet of one image, against the tables of a run and arithmetic of its own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcsp.images.decode import decode_rgb
from dcsp.inspection.images import find_image
from dcsp.inspection.inventory import find_run
from dcsp.report.panels import overlay_attention, overlay_labels
from dcsp.report.sheet import Sheet, read_sheet
from dcsp.report.sheet_page import build_sheet_page, draw_sheet, sheet_lines
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from tests import chain
from tests.chain import CORRUPT, UNTAGGED
from tests.report.pages import Reader, assert_self_contained
from tests.whole_chain.conftest import Done

TRAIN, VAL = "train_000000", "val_000000"


def sheet_of(done: Done, image_id: str, **record: Any) -> Sheet:
    """The sheet of an image of the run, whose record may say something else."""
    run = find_run(done.store, done.plan.run_id)
    return read_sheet(done.store, {**run.record, **record}, *find_image(done.store, run, image_id))


def picture_of(done: Done, image_id: str) -> np.ndarray:
    for part in done.plan.snapshot.parts:
        for row in done.store.read_table(part_file(CORPUS_DIRECTORY, part.name)).to_pylist():
            if row["image_id"] == image_id:
                return decode_rgb(row["bytes"], row["height"] * row["width"])
    raise AssertionError(image_id)


def test_every_step_of_a_training_image_is_shown_in_order(done: Done) -> None:
    sheet = sheet_of(done, TRAIN)
    tags = [sheet.classes[tag - 1] for tag in sheet.tags]
    assert tags and list(sheet.panels) == [
        "image",
        "S_1",
        "S_2",
        "S_3",
        *(f"cues phase 0: attention of {name}" for name in tags),
        "cues phase 0: fused",
        "cues phase 0",
        "cues phase 1",
        "network, without CRF",
        f"published, by {sheet.rule}",
        "ground truth",
    ]
    assert sheet.notes == []
    picture = picture_of(done, TRAIN)
    assert np.array_equal(sheet.panels["image"], picture)
    for title, step in (("cues phase 0", "cues_phase0"), ("cues phase 1", "cues_phase1")):
        label = decode_labels(chain.table(done.plan, step)[TRAIN]["label"])
        assert np.array_equal(sheet.panels[title], overlay_labels(picture, label))
    row = chain.table(done.plan, "predictions")[TRAIN]
    assert row["rule"] == sheet.rule
    published = overlay_labels(picture, decode_labels(row["label"]))
    assert np.array_equal(sheet.panels[f"published, by {sheet.rule}"], published)
    told = [(area["class"], area["pixels"] / (48 * 64)) for area in row["areas"]]
    assert [(area.class_id, area.share) for area in sheet.areas] == told


def fused(done: Done) -> np.ndarray:
    """The harmonic mean of attention and S_k, by hand, in float64."""
    cue = chain.table(done.plan, "cues_phase0")[TRAIN]
    saliency = chain.table(done.plan, "saliency")[TRAIN]["maps"]
    attention = chain.upsample(
        decode_maps(cue["attention"], cue["attention_shape"]), 48, 64, corners=True
    )
    low, high = (f(attention, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    attention = (attention - low) / np.where(high > low, high - low, 1)
    chosen = decode_map(saliency[done.config.cues.dcsp.saliency_pass - 1])
    strength = chain.upsample(chosen[None], 48, 64, corners=False)
    total = attention + strength
    return 2 * attention * strength / np.where(total > 0, total, 1)


def test_the_fused_map_is_the_mean_of_attention_and_saliency(done: Done) -> None:
    sheet = sheet_of(done, TRAIN)
    expected = overlay_attention(
        picture_of(done, TRAIN), fused(done).astype(np.float32), sheet.tags
    )
    shown = sheet.panels["cues phase 0: fused"]
    different = np.abs(shown.astype(int) - expected).max(axis=-1) > 2
    assert different.mean() < 0.02  # where two tags are equally strong, either may give the colour
    assert np.ptp(expected.astype(int)) > 30


def test_a_cue_of_the_crf_is_shown_before_it_as_well(done: Done) -> None:
    record = find_run(done.store, done.plan.run_id).record
    steps = [
        step | {"role": "cues"} if step["title"] == "cues_soft" else step
        for step in record["steps"]
    ]
    assert "cues soft" not in sheet_of(done, TRAIN).panels
    panels = sheet_of(done, TRAIN, steps=steps).panels
    soft = done.config.cues.compare["soft"]
    strongest = fused(done).max(axis=0)
    ids = np.asarray(sheet_of(done, TRAIN).tags, np.uint8)[fused(done).argmax(axis=0)]
    label = np.where(strongest < soft.gamma_high, 255, ids)
    label = np.where(strongest < soft.gamma_low, 0, label).astype(np.uint8)
    expected = overlay_labels(picture_of(done, TRAIN), label)
    different = (panels["cues soft: before the CRF"] != expected).any(axis=-1)
    assert different.mean() < 0.05 and "cues soft" in panels


def test_held_out_untagged_and_damaged_images_show_what_there_is(done: Done) -> None:
    held_out = sheet_of(done, VAL)
    assert "network, with CRF" in held_out.panels and "cues phase 0" not in held_out.panels
    untagged = sheet_of(done, UNTAGGED)
    assert untagged.tags == [] and "cues phase 0" not in untagged.panels
    assert ("cues_phase0", "skipped") in [(row.title, row.status) for row in untagged.rows]
    assert "published, by network" in untagged.panels
    damaged = sheet_of(done, CORRUPT)
    assert list(damaged.panels) == ["image", "ground truth"] and damaged.rule == ""
    assert all(row.status == "error" and row.error for row in damaged.rows)


@pytest.mark.parametrize("image_id", [TRAIN, VAL, UNTAGGED, CORRUPT])
def test_the_page_needs_nothing_from_elsewhere_and_says_all(done: Done, image_id: str) -> None:
    sheet = sheet_of(done, image_id)
    page = build_sheet_page(sheet)
    assert_self_contained(page)
    reader = Reader(page)
    alternatives = [value for name, value in reader.attributes if name == "alt"]
    assert alternatives == [f"{title} of {image_id}" for title in sheet.panels]
    for row in sheet.rows:
        assert row.directory in reader.text and row.error in reader.text
    assert ("Published label" in reader.text) == bool(sheet.areas)


def test_the_picture_holds_every_panel(done: Done) -> None:
    sheet = sheet_of(done, TRAIN)
    with Image.open(io.BytesIO(draw_sheet(sheet))) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        pixels = np.asarray(picture)
    shrunk = np.asarray(
        Image.fromarray(pixels[28 : 28 + 240, 28 : 28 + 320]).resize((64, 48), Image.Resampling.BOX)
    )
    assert np.abs(shrunk.astype(int) - sheet.panels["image"]).mean() < 6
    rows = -(-len(sheet.panels) // 4)
    assert pixels.shape[0] >= 28 + rows * 264 + 20 * len(sheet_lines(sheet))


def test_trust_is_shown_with_its_reasons(done: Done) -> None:
    row = chain.table(done.plan, "trust")[TRAIN]
    sheet = sheet_of(done, TRAIN)
    assert sheet.trust is not None
    score, reasons = sheet.trust
    assert score == row["score"]
    assert len(reasons) == sum(bool(c["reasons"]) for c in row["classes"])
    assert any(line.startswith(f"trust: {score:.2f}") for line in sheet_lines(sheet))
    assert f"Trust{score:.2f}" in Reader(build_sheet_page(sheet)).text


def test_a_run_of_another_version_lacks_its_fused_maps_and_says_so(done: Done) -> None:
    sheet = sheet_of(done, TRAIN, run_id="of another version")
    assert "cues phase 0" in sheet.panels and "cues phase 0: fused" not in sheet.panels
    assert [note.partition(":")[0] for note in sheet.notes] == ["fused maps are not shown"]
    assert sheet.notes[0] in sheet_lines(sheet) and "fused maps are not" in build_sheet_page(sheet)
