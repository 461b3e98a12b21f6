"""The whole page: self-contained, well-formed, escaped, and complete."""

from dataclasses import replace
from typing import Any

import numpy as np

from dcsp.evaluation.changes import Against
from dcsp.report.data import CuePhase, Curve, ReportData
from dcsp.report.images import most_bytes
from dcsp.report.layers import Layer
from dcsp.report.page import build_report
from dcsp.report.steps import next_steps
from dcsp.trust.score import REASONS
from tests.report.conftest import card, selftag_figures
from tests.report.pages import Reader, assert_self_contained


def test_elements_nest_and_ids_of_sections_are_there(run: ReportData) -> None:
    reader = Reader(build_report(run))
    assert reader.open == []
    for heading in ("How far to trust this", "Where the quality comes from", "Class by class",
                    "Next steps", "Images", "Training", "Rows and time",
                    "What made this run"):  # fmt: skip
        assert heading in reader.text


def test_the_page_needs_nothing_from_elsewhere(run: ReportData) -> None:
    assert_self_contained(build_report(run))


def test_every_text_is_escaped(run: ReportData) -> None:
    nasty = "<script>alert('x')</script>&\"><img src=x onerror=alert(1)>"
    item = replace(card(nasty), error=nasty, split=nasty)
    curve = Curve(nasty, {nasty: [(0, 1.0), (1, 0.5)]})
    page = build_report(
        replace(
            run,
            run_id=nasty, created=nasty, store=nasty, corpus=nasty, measured_split=nasty,
            classes=(nasty, "dog", "cow"), images={nasty: 3}, curves=[curve],
            cues=[CuePhase(0, nasty, run.cues[0].figures, 10.0)],
            prediction=None, prediction_crf=None,
            seconds={nasty: 1.0}, reused=frozenset({nasty}), rows={nasty: {"ok": 1, "error": 1}},
            rejected={nasty: 2}, fingerprints={nasty: nasty}, settings=nasty,
            versions={nasty: nasty}, gallery=[item],
        )
    )  # fmt: skip
    reader = Reader(page)
    assert reader.open == []
    assert reader.tags["script"] == 1
    assert "onerror" not in {name for name, _ in reader.attributes}
    assert reader.tags["img"] == len(item.layers)
    assert nasty in reader.text


def test_a_run_with_nothing_to_show_still_has_a_page(bare: ReportData) -> None:
    reader = Reader(build_report(bare))
    assert reader.open == []
    assert "unmeasured" in reader.text
    for heading in ("Class by class", "Images", "Training", "Rows and time"):
        assert heading not in reader.text


def test_figures_are_those_of_the_run(run: ReportData) -> None:
    text = Reader(build_report(run)).text
    assert run.prediction_crf and run.prediction
    for figures in (run.prediction, run.prediction_crf):
        assert figures["miou"] is not None and f"{figures['miou']:.1f}" in text
    for name in ("background", *run.classes):
        recall = run.prediction_crf["per_class"][name]["recall"]
        assert name in text and recall is not None and f"{recall:.1f}" in text
    assert "1 h 7 min" in text and "reused" in text and "0123abcd" in text


def test_without_a_crf_its_columns_are_left_out(run: ReportData) -> None:
    text = Reader(build_report(replace(run, prediction_crf=None))).text
    assert "CRF" not in text


def test_cues_mined_for_comparison_are_shown_without_a_gain(run: ReportData) -> None:
    compared = {"paper": run.prediction, "unmeasured": None}
    plain = build_report(run)
    page = build_report(replace(run, compared=compared))
    assert "settings “paper”" in page and "unmeasured" not in page
    assert page.count(' up"') == plain.count(' up"')


def test_self_tags_have_a_section_where_there_are_any(run: ReportData) -> None:
    assert "Self-tags" not in Reader(build_report(run)).text
    text = Reader(build_report(replace(run, selftags=selftag_figures()))).text
    assert "for a precision of 90.0 %, calibrated on 40 tagged images of the split val" in text
    assert "cat0.75095.082.070.021301 200" in text.replace("\u2009", " ")
    assert "dog––––030" in text


def test_names_of_stages_are_written_with_spaces(run: ReportData) -> None:
    curve = Curve("joint_phase0", {"total": [(0, 1.0)]})
    run = replace(run, curves=[curve], reused=frozenset({"joint_phase0"}))
    text = Reader(build_report(run)).text
    assert "joint phase 0reused" in text and "joint_phase0" not in text


def test_a_card_has_every_layer_with_a_text_for_screen_readers(run: ReportData) -> None:
    alternatives = [v for n, v in Reader(build_report(run)).attributes if n == "alt"]
    assert alternatives == [
        "image", "published", "ground truth", "cue 0", "cue 1", "changed", "S_1", "S_3",
        "attention, cat",
    ]  # fmt: skip


def test_a_card_tells_figures_and_reasons(run: ReportData) -> None:
    reader = Reader(build_report(run))
    assert "trust 25.0IoU 40.0changed 10.0" in reader.text
    assert "cat: it is tagged and no pixel is labelled so; dog: the network is" in reader.text
    told = {n: v for n, v in reader.attributes if n.startswith("data-")}
    assert told["data-classes"] == "1 2 3" and told["data-reasons"] == "no_pixels confidence"


def test_an_image_without_pictures_is_still_listed(run: ReportData) -> None:
    item = replace(card(), layers=(), trust=None, iou=None, changed=None, error="no saliency")
    reader = Reader(build_report(replace(run, gallery=[item])))
    assert reader.tags["img"] == 0
    assert "no picture" in reader.text and "no saliency" in reader.text
    assert ("data-reasons", "no_pixels confidence failed") in reader.attributes
    assert not {"data-trust", "data-iou", "data-changed"} & {n for n, v in reader.attributes if v}


def test_a_choice_of_images_is_called_one(run: ReportData) -> None:
    text = Reader(build_report(run)).text.replace("\u2009", " ")
    assert "1 of 300 images: a sample" in text
    text = Reader(build_report(replace(run, images={"val": 1}))).text
    assert "All 1 images" in text


def test_next_steps_are_commands_of_the_command_line(run: ReportData) -> None:
    trust: Any = {"splits": {"train": None, "val": 80.0}}
    steps = Reader(next_steps(replace(run, store="/data/my store", trust=trust))).text
    assert "dcsp review '/data/my store' demo-1 --budget 100 --out review" in steps
    for unrated in (None, {"splits": {"val": 80.0}}):  # it would refuse
        told: Any = unrated
        assert "dcsp review" not in Reader(next_steps(replace(run, trust=told))).text
    text = Reader(build_report(replace(run, store="/data/my store"))).text
    for command in (
        "dcsp export '/data/my store' labels demo-1",
        "dcsp publish '/data/my store' demo-1",
        "dcsp rollback '/data/my store'",
        "dcsp explain --run demo-1 '/data/my store'",
    ):
        assert command in text
    assert "dcsp diff" not in text
    cues = Reader(build_report(replace(run, ends_with_cues=True))).text
    assert "dcsp export ./store cues demo-1 --labels cues" in cues
    assert "dcsp publish" not in cues and "dcsp explain" not in cues


def test_what_changed_against_the_published_run_has_a_section(run: ReportData) -> None:
    against: Against = {
        "run": "demo-0", "images": 300, "images_changed": 20, "images_new": 4, "images_gone": 0,
        "pixels": 1000, "pixels_changed": 100, "changed_share": 0.1,
        "per_class": {
            "background": {"before": 600, "after": 540, "both": 500},
            "cat": {"before": 400, "after": 460, "both": 400},
            "dog": {"before": 0, "after": 0, "both": 0},
        },
    }  # fmt: skip
    text = Reader(build_report(replace(run, against=against))).text.replace("\u2009", " ")
    assert "Images changed20of 300 images that both label" in text
    assert "Pixels changed10.0 %of an image, on average" in text and "New images4" in text
    assert "background600540−10.078.1" in text and "cat400460+15.087.0" in text
    assert "dog00" not in text and "Images gone" not in text
    assert "dcsp diff ./store demo-0 demo-1 --out diff.html" in text


def test_a_page_of_five_thousand_images_is_below_its_limit(run: ReportData) -> None:
    full, others = 24, 4976
    noise = np.random.default_rng(0)
    layers = [
        [Layer("image", "photo", "webp", noise.bytes(most), 90, 120)]
        for most in most_bytes(full, others)
    ]
    wordy = replace(card("2007/" + 40 * "x"), tags=(1, 2, 3))
    wordy = replace(wordy, reasons=[(id_, why) for id_ in (1, 2, 3) for why in list(REASONS)[1:4]])
    cards = [replace(wordy, layers=layers[0])] * full + [replace(wordy, layers=layers[1])] * others
    page = build_report(replace(run, gallery=cards))
    assert 15e6 < len(page.encode()) < 30e6


def test_equal_runs_give_equal_pages(run: ReportData) -> None:
    assert build_report(run) == build_report(run)
