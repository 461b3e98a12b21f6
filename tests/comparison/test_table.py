"""The arithmetic of a comparison, against numpy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.comparison.table import (
    FIGURES,
    Phases,
    Row,
    Spread,
    TableCost,
    beside_ceiling,
    best_rows,
    class_mean,
    make_row,
    measure,
    shown_figures,
    spread,
)
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.quality import Figures, Quality, summarize

BY_NAME = {figure.name: figure for figure in FIGURES}
CLASSES = ("cat", "dog", "cow")


def figures(truth: np.ndarray, labels: np.ndarray) -> Figures:
    matrix = ConfusionMatrix.of(truth.astype(np.uint8), labels.astype(np.uint8), len(CLASSES))
    return summarize(Quality(matrix, images=1), CLASSES)


def rows(name: str, *means: float | None) -> list[Row]:
    """Rows that have one figure alone."""
    missing = dict.fromkeys(BY_NAME)
    return [
        Row({"a": str(i)}, ["r"], missing | {name: None if m is None else Spread(m, None, 1)})
        for i, m in enumerate(means)
    ]


@given(st.integers(0, 10_000))
def test_means_are_over_the_classes_of_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 3, 255], (9, 9))  # no dog
    labels = rng.choice(rng.choice([0, 1, 2, 3, 255], 3), (9, 9))
    known = truth != 255
    precisions, recalls = [], []
    for class_id in set(truth[known].tolist()):
        hits = float(((labels == class_id) & (truth == class_id)).sum())
        recalls.append(100 * hits / (truth == class_id).sum())
        if named := ((labels == class_id) & known).sum():
            precisions.append(100 * hits / named)
    found = figures(truth, labels)
    assert class_mean(found, "recall") == pytest.approx(np.mean(recalls), abs=1e-3)
    precision = class_mean(found, "precision")
    if precisions:
        assert precision == pytest.approx(np.mean(precisions), abs=1e-3)
    else:
        assert precision is None


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=6))
def test_spread_is_the_sample_standard_deviation(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    found = spread(values)
    if not known:
        assert found is None
        return
    assert found is not None and found.n == len(known)
    assert found.mean == pytest.approx(np.mean(known), abs=1e-6)
    if len(known) == 1:
        assert found.deviation is None
    else:
        assert found.deviation == pytest.approx(np.std(known, ddof=1), abs=1e-6)


def test_costs_are_by_rows_of_each_table() -> None:
    tables = [TableCost(30.0, 4000, 10), TableCost(1.0, 600, 20), TableCost(5.0, 0, 0)]
    found = measure({}, Phases({"figures": None}), tables, [60.0, 1.5])
    assert found["seconds_per_image"] == pytest.approx(3.0 + 0.05 + 5.0)
    assert found["bytes_per_image"] == pytest.approx(400 + 30)
    assert found["training_seconds"] == pytest.approx(61.5)


def test_a_run_is_measured_by_its_first_and_last_cues() -> None:
    truth = np.array([[0, 0, 1, 1]])
    cues = Phases(
        first={"figures": figures(truth, np.array([[0, 0, 255, 1]]))},
        last={"figures": figures(truth, np.array([[0, 1, 1, 1]]))},
        start={"miou": 12.5, "figures": None},
    )
    found = measure({"val": {"miou": 40.0, "miou_crf": None}}, cues, [], [])
    assert set(found) == set(BY_NAME)
    assert found["start_cue_miou"] == 12.5
    assert (found["cue_precision"], found["cue_recall"], found["cue_coverage"]) == (100, 75, 75)
    assert found["cue_miou"] == pytest.approx(75.0)
    assert found["adapt_cue_recall"] == pytest.approx(75.0)
    assert found["adapt_cue_precision"] == pytest.approx((100 + 200 / 3) / 2, abs=1e-3)
    assert (found["val_miou"], found["val_miou_crf"]) == (40.0, None)


def test_without_adapt_truth_or_labels_figures_are_missing() -> None:
    found = measure({}, Phases({"figures": None}), [], [])
    missing = {name for name, value in found.items() if value is None}
    assert missing == {
        name for name in BY_NAME if any(word in name for word in ("cue", "val", "publ", "full"))
    }
    truth = np.full((2, 2), 255)
    assert class_mean(figures(truth, np.zeros((2, 2))), "recall") is None


def test_shares_are_of_the_run_on_true_masks_of_the_same_seed() -> None:
    none = dict.fromkeys(BY_NAME)
    weak = [none | {"val_miou_crf": value, "published_miou": 60.0} for value in (45.0, 30.0)]
    full = [none | {"val_miou_crf": value, "published_miou": 80.0} for value in (50.0, 40.0)]
    found = beside_ceiling(weak, full)
    assert [run["weak_to_full_crf"] for run in found] == pytest.approx([90.0, 75.0])
    assert [run["published_to_full"] for run in found] == pytest.approx([75.0, 75.0])
    assert [run["weak_to_full"] for run in found] == [None, None]
    assert beside_ceiling(weak, None) == beside_ceiling(weak, weak) == weak


def test_a_row_holds_mean_and_spread_over_its_runs() -> None:
    one = dict.fromkeys(BY_NAME, 10.0) | {"val_miou": None}
    two = dict.fromkeys(BY_NAME, 13.0)
    row = make_row({"method": "dcsp", "steps": "3"}, ["a", "b"], [one, two])
    assert row.label == "method=dcsp, steps=3"
    assert row.figures["cue_miou"] == Spread(11.5, pytest.approx(math.sqrt(4.5)), 2)
    assert row.figures["val_miou"] == Spread(13.0, None, 1)
    assert set(row.figures) == set(BY_NAME)


def test_the_best_is_the_highest_quality_and_the_lowest_cost() -> None:
    assert best_rows(rows("cue_miou", 1.0, None, 3.0, 3.0), BY_NAME["cue_miou"]) == {2, 3}
    assert best_rows(rows("cue_miou", 1.0, 3.04, 2.96), BY_NAME["cue_miou"]) == {1, 2}
    assert best_rows(rows("seconds_per_image", 1.0, 3.0), BY_NAME["seconds_per_image"]) == {0}
    assert best_rows(rows("bytes_per_image", None, None), BY_NAME["bytes_per_image"]) == set()


def test_nothing_is_best_among_equals_and_of_coverage() -> None:
    assert best_rows(rows("val_miou", 5.0, 5.0), BY_NAME["val_miou"]) == set()
    assert best_rows(rows("val_miou", 5.0), BY_NAME["val_miou"]) == set()
    assert best_rows(rows("cue_coverage", 5.0, 9.0), BY_NAME["cue_coverage"]) == set()


def test_columns_without_a_value_are_not_shown() -> None:
    assert [f.name for f in shown_figures(rows("val_miou", None, 5.0))] == ["val_miou"]
