"""The table as files that other programs and people read."""

from __future__ import annotations

import csv
import io
import json

import pytest

from dcsp.comparison.table import FIGURES, NOTES, Row, make_row
from dcsp.comparison.text import as_csv, as_markdown, as_tree, cell

NAMES = [figure.name for figure in FIGURES]


@pytest.fixture
def rows() -> list[Row]:
    low = dict.fromkeys(NAMES, 40.0) | {"adapt_cue_miou": None, "seconds_per_image": 0.25}
    high = dict.fromkeys(NAMES, 44.0) | {"adapt_cue_miou": None, "seconds_per_image": 0.5}
    return [
        make_row({"method": "a|b", "scales": "[1.0, 0.5]"}, ["r1", "r2"], [low, high]),
        make_row({"method": "c", "scales": "[1.0]"}, ["r3"], [high]),
    ]


def test_markdown_marks_the_best_and_states_n(rows: list[Row]) -> None:
    header, rule, first, second, *rest = as_markdown(rows).splitlines()
    titles = [title.strip() for title in header.strip("|").split("|")]
    assert titles[:3] == ["method", "scales", "n"]
    assert "Val mIoU, %" in titles and "Adapt cue mIoU, %" not in titles
    assert rule.count("|") == header.count("|") == second.count("|")
    assert first.startswith(r"| a\|b | [1.0, 0.5] | 2 | 42.0 ± 2.8 | 42.0 ± 2.8 |")
    assert second.startswith("| c | [1.0] | 1 | **44.0** | **44.0** |")
    assert "| **0.375 ± 0.177** |" in first and "| 0.500 |" in second
    assert set(NOTES) <= set(rest)


def test_csv_has_mean_deviation_and_n_of_every_figure(rows: list[Row]) -> None:
    found = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [line["method"] for line in found] == ["a|b", "c"]
    assert found[0]["scales"] == "[1.0, 0.5]" and found[0]["runs"] == "r1 r2"
    assert float(found[0]["val_miou"]) == 42.0
    assert float(found[0]["val_miou_sd"]) == pytest.approx(8**0.5)
    assert found[0]["val_miou_n"] == "2" and found[1]["val_miou_n"] == "1"
    assert found[1]["val_miou_sd"] == "" and found[0]["adapt_cue_miou"] == ""
    assert all({name, f"{name}_sd", f"{name}_n"} <= set(found[0]) for name in NAMES)


def test_json_says_what_is_best_and_what_columns_mean(rows: list[Row]) -> None:
    tree = json.loads(json.dumps(as_tree("base-12", rows), allow_nan=False))
    assert tree["name"] == "base-12" and tree["notes"] == list(NOTES)
    assert [figure["name"] for figure in tree["figures"]] == NAMES
    first, second = tree["rows"]
    assert first["settings"] == {"method": "a|b", "scales": "[1.0, 0.5]"}
    assert first["runs"] == ["r1", "r2"]
    assert first["best"] == ["seconds_per_image", "bytes_per_image", "training_seconds"]
    assert "val_miou" in second["best"] and "cue_coverage" not in second["best"]
    assert second["figures"]["val_miou"] == {"mean": 44.0, "deviation": None, "n": 1}
    assert second["figures"]["adapt_cue_miou"] is None


def test_a_missing_figure_is_a_dash() -> None:
    assert cell(None, FIGURES[0]) == "–"
