"""The writer of tables, sizes and durations in words."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.text import count, duration, in_columns, percent, points, quantity, size, title

CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]


def test_figures_read_well() -> None:
    assert (percent(None), percent(57.25), points(-1.25), points(2)) == (
        "–", "57.2", "\N{MINUS SIGN}1.2", "+2.0"
    )  # fmt: skip
    assert (count(12345), quantity(1, "row"), quantity(2, "class"), quantity(0, "run")) == (
        "12\u2009345", "1 row", "2 classes", "0 runs"
    )  # fmt: skip


def test_names_of_stages_are_split_into_words() -> None:
    assert [title(name) for name in ("joint_phase0", "cues phase 12", "fcan", "a_b", "7")] == [
        "joint phase 0", "cues phase 12", "fcan", "a b", "7"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0.0 s"),
        (4.21, "4.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (3569, "59 min"),
        (3590, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_keep_about_three_figures(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@given(st.floats(0, 1e7))
def test_a_duration_is_near_and_no_unit_is_full(seconds: float) -> None:
    words = duration(seconds).split()
    found = dict(zip(words[1::2], map(float, words[::2]), strict=True))
    assert found.get("s", 0) < 60 and found.get("min", 0) < 60
    told = sum({"h": 3600, "min": 60, "s": 1}[unit] * number for unit, number in found.items())
    assert told == pytest.approx(seconds, rel=0.051, abs=0.051)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (-0.3, "0 B"),
        (1023, "1023 B"),
        (1023.6, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**20, "1.0 MiB"),
        (300 * 2**20, "300.0 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_sizes_are_binary(number: float, written: str) -> None:
    assert size(number) == written


@given(st.integers(-(2**49), 2**49))
def test_a_size_is_near_and_no_unit_is_full(number: int) -> None:
    told, unit = size(number).split()
    assert abs(float(told)) < 1024
    assert float(told) * 1024 ** UNITS.index(unit) == pytest.approx(number, rel=0.051)


def test_columns_are_aligned_and_lines_end_with_their_text() -> None:
    rows = [("stage", "images", "what"), ("a", "1", ""), ("a wide cell", "12,000", "done")]
    assert in_columns(rows, "<><") == [
        "stage        images  what",
        "a                 1",
        "a wide cell  12,000  done",
    ]


def test_a_table_may_be_empty() -> None:
    assert in_columns([], "<>") == []
    assert in_columns([("", "")], "<>") == [""]


@pytest.mark.parametrize("rows", [[("a",)], [("a", "b"), ("a",)], [("a", "b", "c")]])
def test_rows_that_are_ragged_are_refused(rows: list[tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        in_columns(rows, "<>")


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1), st.text("<>", min_size=3, max_size=3))
def test_every_cell_stands_in_its_column(rows: list[tuple[str, ...]], align: str) -> None:
    lines = in_columns(rows, align)
    assert [tuple(line.split()) for line in lines] == rows
    start = 0
    for column, side in zip(zip(*rows, strict=True), align, strict=True):
        end = start + max(map(len, column))
        for line, cell in zip(lines, column, strict=True):
            assert line[start:end].strip() == cell
            assert line.startswith(cell, start if side == "<" else end - len(cell))
        start = end + 2


def test_it_imports_nothing_but_python() -> None:
    script = (
        "import sys; before = set(sys.modules); import dcsp.text; new = set(sys.modules) - before; "
        "print(*sorted(m for m in new if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["dcsp", "dcsp.text"]
