"""Timing of two ways to do the same work, side by side, and the rows that are reported of it."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

Ours = TypeVar("Ours")
Peer = TypeVar("Peer")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: As on the command line.
        ratio: How many times better ours is: ``peer / ours``.
        ours: Median of ours, in ``unit``, of which less is better.
        peer: Median of the peer.
        unit: Such as ``ms/image``.
        detail: What was measured on what, spread, and how far the results agree.
    """

    name: str
    ratio: float
    ours: float
    peer: float
    unit: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair(Generic[Ours, Peer]):
    """Seconds of ours and of the peer, round by round, and what each returned at first."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]
    our_result: Ours
    peer_result: Peer

    def row(self, name: str, items: int, item: str, **detail: Any) -> Row:
        """The row of this measurement, in milliseconds an item."""
        per_item = 1000 / items
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        ratios = [p / o for o, p in zip(self.ours, self.peer, strict=True)]
        spread = {
            "rounds": len(ratios),
            "ratio_quartiles": quartiles(ratios),
            "ours_quartiles": quartiles([seconds * per_item for seconds in self.ours]),
            "peer_quartiles": quartiles([seconds * per_item for seconds in self.peer]),
        }
        unit = f"ms/{item}"
        return Row(name, peer / ours, ours * per_item, peer * per_item, unit, detail | spread)


def compare(
    ours: Callable[[], Ours], peer: Callable[[], Peer], rounds: int, warmup: int = 1
) -> Pair[Ours, Peer]:
    """Time both in turn: after the warm-up, each round runs both, and who goes first alternates.

    A machine that others use slows both sides of a round alike.
    """
    our_result, peer_result = ours(), peer()
    for _ in range(warmup - 1):
        ours(), peer()
    our_seconds: list[float] = []
    peer_seconds: list[float] = []
    for number in range(rounds):
        sides = [(ours, our_seconds), (peer, peer_seconds)]
        for run, seconds in sides if number % 2 == 0 else reversed(sides):
            seconds.append(_seconds(run))
    return Pair(tuple(our_seconds), tuple(peer_seconds), our_result, peer_result)


def against(name: str, ours: float, peer: Sequence[float], item: str, **detail: Any) -> Row:
    """The row of a stage that was measured once, beside a peer that was measured again and again.

    Args:
        name: Of the row.
        ours: Seconds an item.
        peer: The same of the peer, in each of its measurements.
        item: What is counted.
        detail: As in the row.
    """
    middle = statistics.median(peer)
    spread = quartiles([seconds / ours for seconds in peer])
    return Row(
        name,
        middle / ours,
        1000 * ours,
        1000 * middle,
        f"ms/{item}",
        detail | {"ratio_quartiles": spread},
    )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; the extremes of fewer than four values."""
    if len(values) < 4:
        return min(values), max(values)
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as text; the ratio is followed by its quartiles over the rounds."""
    lines = [("row", "ratio", "quartiles", "ours", "peer", "unit")]
    for row in rows:
        spread = row.detail.get("ratio_quartiles")
        between = "–".join(f"{value:.3g}" for value in spread) if spread else ""
        ours, peer = (_short(value) for value in (row.ours, row.peer))
        lines.append((row.name, f"{row.ratio:.2f}", between, ours, peer, row.unit))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["<", ">", ">", ">", ">", "<"]
    return "\n".join(
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, aligned, widths, strict=True)).rstrip()
        for line in lines
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write ``bench.json``: a list of rows."""
    text = json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _seconds(run: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
