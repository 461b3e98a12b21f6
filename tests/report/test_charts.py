"""Line charts: ticks, clipping of what is not finite, and size."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.report.charts import HEIGHT, WIDTH, line_chart, nice_ticks


@given(st.floats(1e-6, 1e9))
def test_ticks_are_even_and_just_cover_the_values(top: float) -> None:
    ticks = nice_ticks(top)
    step = ticks[1]
    assert 4 <= len(ticks) <= 7
    assert ticks[0] == 0 and ticks[-1] >= top * (1 - 1e-6) and ticks[-2] < top
    assert ticks == pytest.approx([step * index for index in range(len(ticks))])


@pytest.mark.parametrize("top", [0.0, -1.0, float("nan")])
def test_ticks_without_values(top: float) -> None:
    assert nice_ticks(top) == [0.0, 1.0]


def test_points_stay_inside_the_chart() -> None:
    pairs = [(step, 1.0 + (1000.0 if step == 50 else 0.0)) for step in range(3000)]
    svg = line_chart({"total": pairs, "other": pairs[:3]}, "losses")
    for path in re.findall(r' d="M([^"]*)"', svg):
        points = [tuple(map(float, point.split())) for point in path.split("L")]
        assert len(points) <= 400
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_values_that_are_not_finite_are_left_out() -> None:
    svg = line_chart({"total": [(0, 1.0), (1, float("nan")), (2, float("inf")), (3, 0.5)]}, "t")
    assert "nan" not in svg and "inf" not in svg
    assert "No values" in line_chart({"total": [(0, float("nan"))]}, "t")
    assert "No values" in line_chart({}, "t")


def test_the_legend_gives_the_last_smoothed_value() -> None:
    assert "<b>0.25</b>" in line_chart({"total": [(0, 1.0), (1, 0.25)]}, "t")
