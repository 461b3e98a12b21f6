"""The words about trust follow from the figures, and from nothing else."""

from dataclasses import replace

import pytest

from dcsp.evaluation.quality import Figures
from dcsp.evaluation.selftags import SelfTagFigures
from dcsp.methods.registry import METHODS
from dcsp.report.data import CuePhase, Curve, ReportData
from dcsp.report.page import build_report
from dcsp.report.verdict import Statement, judge
from dcsp.tables.snapshot import ALL_MASKS, Masks
from tests.report.conftest import figures, selftag_figures


def said(run: ReportData) -> str:
    return " | ".join(f"{s.level}: {s.text}" for s in judge(run).statements)


def with_class(name: str, iou: float, precision: float, recall: float) -> Figures:
    changed = figures(0.1)
    changed["per_class"][name] = {
        "iou": iou, "precision": precision, "recall": recall, "share": 1.0
    }  # fmt: skip
    return changed


def test_a_good_run_has_no_caution(run: ReportData) -> None:
    verdict = judge(run)
    assert verdict.level == "good"
    assert {statement.level for statement in verdict.statements} == {"good"}


def test_the_verdict_says_whose_labels_were_measured(run: ReportData) -> None:
    published = {"train": figures(0.4), "val": figures(0.4)}
    held_out = replace(run, prediction_crf=figures(0.05), published=published)
    assert held_out.final == figures(0.05)
    assert "by the network without any tags" in judge(held_out).summary
    learned = replace(held_out, measured_split="train")
    assert learned.final == figures(0.4)
    assert "by the published labels" in judge(learned).summary
    page = build_report(learned)
    assert "all in percent, for the published labels" in page
    assert "tags used where known" in page


@pytest.mark.parametrize(("wrong", "level"), [(0.05, "good"), (0.4, "caution"), (0.8, "bad")])
def test_the_verdict_follows_the_figures_of_the_last_labels(
    run: ReportData, wrong: float, level: str
) -> None:
    final = figures(wrong)
    verdict = judge(replace(run, prediction_crf=final))
    assert verdict.level == level
    assert f"{final['miou']:.1f} %" in verdict.summary


def test_without_masks_the_labels_are_unmeasured(bare: ReportData) -> None:
    verdict = judge(bare)
    assert "unmeasured" in verdict.headline and "gallery" in verdict.summary


def test_bad_masks_are_not_called_missing(bare: ReportData) -> None:
    assert "No image of this corpus has a mask" in judge(bare).summary
    spoilt = replace(bare, rejected={"bad_mask": 3, "empty": 1})
    summary = judge(spoilt).summary
    assert "3 masks could not be used" in summary and "No image" not in summary
    assert "4 rejections (bad_mask 3, empty 1)" in said(spoilt)


def test_few_images_are_named(run: ReportData) -> None:
    assert "Only 12 images" in said(replace(run, prediction_crf=figures(0.1, images=12)))


def test_figures_of_training_images_are_named_as_such(run: ReportData) -> None:
    assert "images that the network learned from" in said(replace(run, measured_split="train"))


def test_weak_classes_are_named_with_the_reason(run: ReportData) -> None:
    missed = said(replace(run, prediction_crf=with_class("dog", 20.0, 90.0, 21.0)))
    assert "dog (20.0: only 21.0 % of its pixels are found)" in missed
    invented = said(replace(run, prediction_crf=with_class("dog", 20.0, 21.0, 90.0)))
    assert "dog (20.0: only 21.0 % of the pixels labelled so are right)" in invented


def test_classes_that_nothing_shows_are_named(run: ReportData) -> None:
    final = figures(0.1)
    final["per_class"]["cow"] = {"iou": None, "precision": None, "recall": None, "share": 0.0}
    assert "Not measured" in said(replace(run, prediction_crf=final))


def test_self_tags_are_told_of_with_what_they_rest_on(run: ReportData) -> None:
    found = selftag_figures()
    text = said(replace(run, selftags=found, selfcues=run.cues[0].figures))
    assert "good: 1 300 of 2 000 untagged images" in text.replace("\u2009", " ")
    assert "their cues overlap by" in text and "caution: Never a self-tag" in text
    assert "enough tagged images: dog." in text and "fewer self-tags" not in text
    learned: SelfTagFigures = {**found, "held_out": False, "split": "train"}
    assert "fewer self-tags are right than their precision says" in said(
        replace(run, selftags=learned)
    )
    nothing: SelfTagFigures = {**found, "self_tagged": 0}
    assert "caution: 0 of 2" in said(replace(run, selftags=nothing))


def test_steps_that_do_not_help_are_named_with_what_to_do(run: ReportData) -> None:
    cues = [
        CuePhase(0, "dcsp", figures(0.3), miou_first_pass=99.0),
        CuePhase(1, "adapt", figures(0.5)),
    ]
    text = said(replace(run, cues=cues, prediction_crf=figures(0.2)))
    for setting in ("cues.dcsp.saliency_pass", "cues.adapt.rounds=0", "predict.crf=false"):
        assert setting in text


def test_losses_that_still_fall_or_break_are_named(run: ReportData) -> None:
    falling = Curve("joint", {"total": [(step, 10.0 - step / 100) for step in range(1000)]})
    assert "still falling at the end of joint" in said(replace(run, curves=[falling]))
    flat = Curve("joint", {"total": [(step, 1.0 + step % 2) for step in range(1000)]})
    assert "still falling" not in said(replace(run, curves=[flat]))
    broken = Curve("joint", {"total": [(0, 1.0), (1, float("nan"))]})
    assert "bad: The loss total of joint was not finite." in said(replace(run, curves=[broken]))


def test_failed_and_rejected_images_are_counted(run: ReportData) -> None:
    rows = {"cues": {"ok": 9, "error": 1}, "predictions": {"ok": 8, "error": 2}}
    text = said(replace(run, rows=rows, rejected={"truncated": 3, "empty": 1}))
    assert "1 row of cues, 2 rows of predictions" in text
    assert "4 rejections (empty 1, truncated 3)" in text
    assert "No image failed" not in text


def test_what_is_worst_comes_first(run: ReportData) -> None:
    broken = Curve("joint", {"total": [(0, float("inf"))]})
    run = replace(run, curves=[broken], rejected={"empty": 1})
    levels = [statement.level for statement in judge(run).statements]
    assert levels == sorted(levels, key=["bad", "caution", "good"].index)
    assert levels[0] == "bad"


def test_every_method_is_spoken_to_in_its_own_words(run: ReportData) -> None:
    cues = (CuePhase(0, "mcof", figures(0.3)), CuePhase(1, "mcof", figures(0.5)))
    for name, method in METHODS.items():
        text = said(replace(run, cues=cues, method=method.words))
        assert method.words.advice in text and f"{method.words.later} changed the cues" in text
        assert ("cues.adapt.rounds" in text) == (name != "mcof"), name
    assert METHODS["mcof"].words.advice == "cues.mcof.rounds=1"


def test_a_refinement_has_a_gain_of_its_own(run: ReportData) -> None:
    start = CuePhase(0, "dcsp", figures(0.4), miou_first_pass=figures(0.5)["miou"])
    cues = (CuePhase(0, "affinity", figures(0.2)), CuePhase(1, "adapt", figures(0.1)))
    text = said(replace(run, start=(start,), cues=cues))
    gains = [
        figures(0.4)["miou"] - start.miou_first_pass,
        figures(0.2)["miou"] - figures(0.4)["miou"],
    ]
    assert f"it lifts the first cues by {gains[0]:.1f} points" in text
    assert f"good: affinity lifted the cues by {gains[1]:.1f} points" in text
    worse = replace(run, start=(CuePhase(0, "dcsp", figures(0.1)),), cues=cues)
    assert "caution: affinity changed the cues that it started from" in said(worse)


def test_masks_that_do_not_go_with_tags_are_told_and_measure_nothing(
    bare: ReportData, run: ReportData
) -> None:
    wrong = Masks(usable=42, unfit=(ALL_MASKS,), left_out=42, told="42 of 42 masks left out")
    verdict = judge(replace(bare, masks=wrong))
    assert "42 masks of 42 do not go with the tags of their images" in verdict.summary
    unnamed = judge(replace(bare, masks=Masks(idle=42)))
    assert "42 masks called like no image" in unnamed.summary
    some = judge(replace(run, masks=replace(wrong, unfit=(1,), left_out=2, told="2 of 42 masks")))
    assert Statement("bad", "2 of 42 masks.") in some.statements
