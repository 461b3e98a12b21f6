"""What labels are good for: never better than what is known of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.evaluation.bootstrap import Samples
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.quality import Quality, summarize
from dcsp.evaluation.trust import TrustFigures
from dcsp.report.data import ReportData
from dcsp.report.standing import EXPECTED_ERROR, GOOD_MIOU, USABLE_MIOU, standing
from dcsp.tables.snapshot import ALL_MASKS, Masks
from tests.report.conftest import CLASSES, figures

ORDER = ("bad", "caution", "good")


def trust(expected: float, **changes: Any) -> TrustFigures:
    found: TrustFigures = {
        "images": 300,
        "expected_miou": expected,
        "per_class": {"cat": {"expected_iou": expected, "images": 100, "without_pixels": 2}},
        "tag_consistency": 1.0,
        "quantiles": {"5": 0.2, "50": 0.6, "95": 0.9},
        "reasons": {"alone": 12},
        "splits": {"train": expected},
        "calibration": None,
    }
    return {**found, **changes}  # type: ignore[typeddict-item]


def level(run: ReportData) -> str:
    return standing(run).level


@given(st.floats(0, 100), st.none() | st.floats(0, 1))
def test_without_masks_it_follows_what_is_expected_less_its_error(
    expected: float, consistency: float | None
) -> None:
    bare = ReportData("bare", "today", "./store", "folder", ("cat",), {"train": 5})
    found = standing(replace(bare, trust=trust(expected, tag_consistency=consistency)))
    if expected < USABLE_MIOU:
        assert found.level == "bad"
    elif expected - EXPECTED_ERROR >= GOOD_MIOU and (consistency is None or consistency >= 0.9):
        assert found.level == "good"
    else:
        assert found.level == "caution" and "What would change this" in found.summary
    assert f"{expected:.1f} %" in found.summary and "No image of this corpus" in found.summary


def test_classes_that_no_label_shows_speak_against_good_labels() -> None:
    bare = ReportData("bare", "today", "./store", "folder", ("cat", "dog"), {"train": 5})
    unseen = {"dog": {"expected_iou": None, "images": 0, "without_pixels": 0}}
    seen = trust(90.0)["per_class"]
    found = standing(replace(bare, trust=trust(90.0, per_class={**seen, **unseen})))
    assert found.level == "caution" and "images that show dog" in found.summary
    nothing = standing(replace(bare, trust={**trust(0.0), "expected_miou": None}))
    assert nothing.headline == "These labels are unmeasured."


def test_an_interval_that_reaches_below_is_not_good(run: ReportData) -> None:
    final = figures(0.1)
    surely = replace(run, prediction_crf={**final, "interval": (61.0, 90.0)})
    assert level(surely) == "good"
    found = standing(replace(run, prediction_crf={**final, "interval": (59.0, 90.0)}))
    assert found.level == "caution" and "surely above 60 %" in found.summary
    assert "between 59.0 and 90.0 %" in found.summary


@pytest.mark.parametrize("images", [0, 4])
def test_classes_that_too_few_masks_show_are_unknown(run: ReportData, images: int) -> None:
    final = figures(0.1)
    final["per_class"]["dog"]["images"] = images
    found = standing(replace(run, prediction_crf=final))
    assert found.level == "caution" and "at least that show dog" in found.summary


def test_a_class_whose_pixels_are_mostly_wrong_is_not_good(run: ReportData) -> None:
    final = figures(0.1)
    final["per_class"]["dog"]["precision"] = 50.0
    found = standing(replace(run, prediction_crf=final))
    assert found.level == "caution" and "labelled dog" in found.summary


def test_masks_that_do_not_fit_are_no_proof(run: ReportData) -> None:
    unfit = Masks(usable=40, left_out=20, unfit=(ALL_MASKS,), told="20 of 40 masks do not fit")
    assert level(replace(run, masks=unfit)) == "caution"


def test_good_figures_are_no_proof_where_many_tags_have_no_pixels(run: ReportData) -> None:
    found = standing(replace(run, trust=trust(90, tag_consistency=0.524)))
    assert found.level == "caution" and "pixels for what is tagged" in found.summary
    assert level(replace(run, trust=trust(90, tag_consistency=0.95))) == "good"


def test_good_figures_of_a_few_do_not_stand_against_low_expectations_of_all(
    run: ReportData,
) -> None:
    assert level(replace(run, trust=trust(80.0))) == "good"
    found = standing(replace(run, trust=trust(45.0)))
    assert found.level == "caution" and "45.0 % is expected" in found.summary


@given(st.floats(0, 0.9), st.floats(0, 0.9))
def test_worse_figures_never_get_a_better_verdict(one: float, other: float) -> None:
    base = ReportData("r", "today", "./store", "folder", ("cat", "dog", "cow"), {"train": 5})
    better, worse = (
        ORDER.index(level(replace(base, prediction=figures(wrong))))
        for wrong in sorted((one, other))
    )
    assert better >= worse


def test_42_photographs_whose_dogs_are_half_wrong_are_drafts(run: ReportData) -> None:
    """Training images, three classes, an mIoU above the mark: seen as "good enough" before."""
    quality = Quality.empty(3)
    for number in range(42):
        truth = np.zeros((30, 30), np.uint8)
        truth[5:25, 5:25] = 1 + number % 3
        label = truth.copy()
        label[5:25, 5:15] = 2  # half of every cat and cow is called a dog
        matrix = ConfusionMatrix.of(truth, label, 3)
        quality += Quality(matrix, images=1, samples=Samples.of({str(number): matrix}))
    figures_ = summarize(quality, CLASSES)
    assert figures_["miou"] is not None and figures_["miou"] > GOOD_MIOU
    assert figures_["per_class"]["dog"]["precision"] == 50.0
    found = standing(replace(run, prediction_crf=None, prediction=figures_))
    assert found.level == "caution"
