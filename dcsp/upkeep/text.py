"""What goes of a store and what stays, as text."""

from __future__ import annotations

from collections.abc import Iterable

from dcsp.inspection.text import section
from dcsp.text import count, quantity, size
from dcsp.upkeep.collection import Collected, kind_of


def collected_text(collected: Collected, is_done: bool) -> str:
    """Runs with why they stay, and files and bytes that go by kind."""
    goes, stays = ("removed", "kept") if is_done else ("goes", "stays")
    runs = [(run, stays if why else goes, why) for run, why in collected.runs.items()]
    gone = set(collected.goes)
    left = [name for name in collected.files if name not in gone]
    kinds = sorted({kind_of(name) for name in collected.files})
    rows = [
        (kind, *_figures(collected, gone, kind), *_figures(collected, left, kind)) for kind in kinds
    ]
    head = ("kind", goes, "bytes", stays, "bytes")
    lines = [
        section("runs", ("run", "", "why"), runs, "<<<"),
        section("files", head, rows, "<>>>>"),
    ]
    for number, noun in (
        (len(collected.uploads), "upload that did not end"),
        (len(collected.folders), "empty folder"),
    ):
        if number:
            lines.append(f"{goes}: {quantity(number, noun)}")
    if collected.not_looked:
        lines.append(f"uploads that did not end were not looked for: {collected.not_looked}")
    return "\n".join(lines)


def summary(collected: Collected, is_done: bool) -> str:
    """The last line: how much, and what to do."""
    freed = size(sum(collected.files[name].bytes for name in collected.goes))
    what = f"{quantity(len(collected.goes), 'file')}, {freed}"
    return f"removed: {what}" if is_done else f"would go: {what}; --delete removes them"


def _figures(collected: Collected, names: Iterable[str], kind: str) -> tuple[str, str]:
    of_kind = [name for name in names if kind_of(name) == kind]
    return count(len(of_kind)), size(sum(collected.files[name].bytes for name in of_kind))
