"""The whole page: self-contained, well-formed, escaped, and complete."""

import re
from dataclasses import replace

import numpy as np

from dcsp.report.data import CuePhase, Curve, ReportData
from dcsp.report.page import build_report
from tests.report.conftest import gallery_item, selftag_figures
from tests.report.pages import Reader, assert_self_contained


def test_elements_nest_and_ids_of_sections_are_there(run: ReportData) -> None:
    reader = Reader(build_report(run))
    assert reader.open == []
    for heading in ("How far to trust this", "Where the quality comes from", "Class by class",
                    "Gallery", "Training", "Rows and time", "What made this run"):  # fmt: skip
        assert heading in reader.text


def test_the_page_needs_nothing_from_elsewhere(run: ReportData) -> None:
    assert_self_contained(build_report(run))


def test_every_text_is_escaped(run: ReportData) -> None:
    nasty = "<script>alert('x')</script>&\"><img src=x onerror=alert(1)>"
    item = replace(gallery_item(nasty), error=nasty, split=nasty)
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
    assert "<script" not in page and "onerror" not in {name for name, _ in reader.attributes}
    assert reader.tags["img"] == 8
    assert nasty in reader.text


def test_a_run_with_nothing_to_show_still_has_a_page(bare: ReportData) -> None:
    reader = Reader(build_report(bare))
    assert reader.open == []
    assert "unmeasured" in reader.text
    for heading in ("Class by class", "Gallery", "Training", "Rows and time"):
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


def test_gallery_shows_every_panel_with_a_text_for_screen_readers(run: ReportData) -> None:
    alternatives = [v for n, v in Reader(build_report(run)).attributes if n == "alt"]
    assert alternatives == [
        f"{title} of folder/image-1"
        for title in ("image", "S_1", "S_3", "attention", "cue 0", "cue 1", "published",
                      "ground truth")
    ]  # fmt: skip


def test_panels_that_are_missing_are_left_out(run: ReportData) -> None:
    item = gallery_item()
    item = replace(item, saliency={}, attention=None, cues={}, truth=None, error="no saliency")
    reader = Reader(build_report(replace(run, gallery=[item])))
    assert reader.tags["img"] == 2
    assert "no saliency" in reader.text


def test_an_image_with_its_truth_gets_its_own_iou(run: ReportData) -> None:
    wrong = replace(gallery_item("wrong"), prediction=np.zeros((48, 48), np.uint8))
    text = Reader(build_report(replace(run, gallery=[gallery_item("right"), wrong]))).text
    assert re.search(r"right.*?IoU 100\.0.*?wrong.*?IoU 0\.0", text, re.DOTALL)


def test_equal_runs_give_equal_pages(run: ReportData) -> None:
    assert build_report(run) == build_report(run)
