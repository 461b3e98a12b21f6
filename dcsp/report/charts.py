"""Line charts as inline SVG, coloured by the page's style so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.report.markup import Markup, element, join
from dcsp.text import count

WIDTH, HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 26
_POINTS = 400
"""Most points drawn of a line."""
SERIES = 4
"""Colours of lines in the style; further lines start over."""

Pairs = Sequence[tuple[int, float]]


def line_chart(lines: Mapping[str, Pairs], title: str) -> Markup:
    """Lines over steps: faint as they are, and strong smoothed.

    Args:
        lines: Name → (step, value) pairs in order of steps; values that are not finite are left
            out.
        title: What the chart shows, for screen readers.

    Returns:
        The chart with its legend, which gives each line's smoothed last value.
    """
    series = {name: _finite(pairs) for name, pairs in lines.items()}
    series = {name: points for name, points in series.items() if len(points)}
    if not series:
        return element("p", "No values were logged.", class_="muted")
    last_step = max(points[-1, 0] for points in series.values())
    smoothed = {name: _smooth(points) for name, points in series.items()}
    ticks = nice_ticks(_top(series, smoothed))
    scale = _Scale(max(last_step, 1.0), ticks[-1])
    drawn = [
        element("path", d=scale.path(points), class_=f"line s{index % SERIES} {style}")
        for style, group in (("raw", series), ("smooth", smoothed))
        for index, points in enumerate(group.values())
    ]
    chart = element(
        "svg",
        _grid(scale, ticks),
        drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=title,
        class_="chart",
    )
    return join(chart, _legend(smoothed))


def nice_ticks(top: float) -> list[float]:
    """Round values from 0 to the first one at or above ``top``, four to seven of them."""
    if not top > 0:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(top / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if top / (unit * factor) <= 5)
    return [step * index for index in range(math.ceil(top / step - 1e-9) + 1)]


class _Scale:
    def __init__(self, last_step: float, top: float) -> None:
        self.last_step, self.top = last_step, top

    def x(self, step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / self.last_step

    def y(self, value: float) -> float:
        share = min(value / self.top, 1.0)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    def path(self, points: NDArray[np.float64]) -> str:
        chosen = np.unique(np.linspace(0, len(points) - 1, _POINTS).round().astype(int))
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points[chosen])


def _grid(scale: _Scale, ticks: Sequence[float]) -> Markup:
    rows = [
        join(
            element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=f"{scale.y(tick):.1f}",
                    y2=f"{scale.y(tick):.1f}", class_="grid"),
            element("text", f"{tick:g}", x=_LEFT - 6, y=f"{scale.y(tick) + 3.5:.1f}",
                    text_anchor="end"),
        )
        for tick in ticks
    ]  # fmt: skip
    steps = [step for step in nice_ticks(scale.last_step) if step <= scale.last_step]
    columns = [
        element("text", count(round(step)), x=f"{scale.x(step):.1f}", y=HEIGHT - 8,
                text_anchor="middle")
        for step in steps
    ]  # fmt: skip
    return join(rows, columns)


def _legend(smoothed: Mapping[str, NDArray[np.float64]]) -> Markup:
    entries = [
        element(
            "span",
            element("i", class_=f"key s{index % SERIES}"),
            f"{name} ",
            element("b", f"{points[-1, 1]:.3g}"),
        )
        for index, (name, points) in enumerate(smoothed.items())
    ]
    return element("p", entries, class_="keys")


def _finite(pairs: Pairs) -> NDArray[np.float64]:
    points = np.array([(step, value) for step, value in pairs], dtype=np.float64).reshape(-1, 2)
    finite: NDArray[np.float64] = points[np.isfinite(points).all(axis=1)]
    return finite


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A running mean over a twentieth of the points, centred and narrower at both ends."""
    reach = len(points) // 40
    total = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    index = np.arange(len(points))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(points))
    means = (total[high] - total[low]) / (high - low)
    return np.column_stack([points[:, 0], means])


def _top(
    series: Mapping[str, NDArray[np.float64]], smoothed: Mapping[str, NDArray[np.float64]]
) -> float:
    """Top of the scale: all of the smoothed lines, but not the rare spikes of the raw ones."""
    values = np.concatenate([points[:, 1] for points in series.values()])
    highest = max(points[:, 1].max() for points in smoothed.values())
    return float(max(highest, np.quantile(values, 0.98)))
