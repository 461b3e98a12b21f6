"""What the ``dcsp`` command says of runs, tables and checkpoints, as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from dcsp.inspection.inventory import Difference, Output, Run, differences, flatten
from dcsp.run.history import History
from dcsp.tables.schemas import STATUSES
from dcsp.text import in_columns, quantity, shown, size

_FIGURES = ("cues.phase0.miou", "val.miou", "val.miou_crf")
_TABLE_HEADER = ("table", "parts", *STATUSES, "size", "used by")
_CHECKPOINT_HEADER = ("checkpoint", "stage", "steps", "size", "used by")
FIGURES = "figures"
_WIDEST = 60
"""Longest value shown in a table."""


def section(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], align: str, none: str = "none"
) -> str:
    """Rows below their title and header; where there are none, a line that says so.

    Args:
        title: Of the section.
        header: Of the columns.
        rows: Cells of each row.
        align: A sign a column, as :func:`dcsp.text.in_columns` has it.
        none: What is said where there is no row.
    """
    body = [[shown(cell) for cell in row] for row in rows]
    if not body:
        return f"{title}: {none}\n"
    heading = [shown(cell) for cell in header]
    return "\n  ".join([title, *in_columns([heading, *body], align)]) + "\n"


def store_text(known: Iterable[Run], found: Sequence[Output]) -> str:
    """The runs, the tables with their rows by status, and the checkpoints."""
    tables = [_table_row(output) for output in found if not output.is_checkpoint]
    checkpoints = [_checkpoint_row(output) for output in found if output.is_checkpoint]
    return "\n".join(
        (
            section("runs", ("run", "ended", *_FIGURES), map(_run_row, known), "<<>>>"),
            section("tables", _TABLE_HEADER, tables, "<>>>>><"),
            section("checkpoints", _CHECKPOINT_HEADER, checkpoints, "<<>><"),
        )
    )


Versions = Mapping[str, Any]
"""What has a version → it, of one run."""


def run_differences(
    left: Run, right: Run, versions: tuple[Versions, Versions]
) -> dict[str, list[Difference]]:
    """The settings, corpora, stages, versions and figures in which two runs differ.

    Args:
        left: A run.
        right: Another.
        versions: Of both.
    """
    compared = {
        "settings": (left.record.get("config", {}), right.record.get("config", {})),
        "corpus": (_corpus(left), _corpus(right)),
        "stages": (_directories(left), _directories(right)),
        "versions": versions,
        FIGURES: (_figures(left), _figures(right)),
    }
    return {title: differences(*both) for title, both in compared.items()}


def difference_rows(
    found: Mapping[str, Sequence[Difference]],
) -> dict[str, list[tuple[str, ...]]]:
    """Rows of a key and both values as text; of figures also their difference."""
    return {
        title: [
            (d.key, _cell(d.first), _cell(d.second))
            + ((_change(d.first, d.second),) if title == FIGURES else ())
            for d in differing
        ]
        for title, differing in found.items()
    }


def difference_text(found: Mapping[str, Sequence[Difference]], ids: tuple[str, str]) -> str:
    """What :func:`run_differences` found of two runs of these ids."""
    header = {title: ("", *ids, *(["change"] if title == FIGURES else [])) for title in found}
    return "\n".join(
        section(title, header[title], rows, "<>>>" if title == FIGURES else "<<<", "the same")
        for title, rows in difference_rows(found).items()
    )


def history_text(history: History, there: Set[str]) -> str:
    """What was published and held back, the oldest first, and the run that is published now.

    Args:
        history: Of a store.
        there: Ids of the runs that the store still has.
    """
    rows = [_event_row(history, place, there) for place in range(len(history.events))]
    told = section("history", ("when", "what", "run", "now", "by", "before", "why"), rows, "<" * 7)
    named = {event.run for event in history.events}
    other = "" if history.current in {None, *named} else ", which the history does not name"
    return f"{told}\npublished now: {shown(history.current or 'none')}{other}"


def _event_row(history: History, place: int, there: Set[str]) -> Sequence[str]:
    event = history.events[place]
    what = "not carried out" if place in history.not_carried_out else event.kind
    states = (
        ("published", event.run == history.current),
        ("withdrawn", event.run in history.withdrawn),
        ("gone", event.run not in there),
    )
    now = ", ".join(state for state, holds in states if holds)
    why = f"back from {', '.join(event.withdrawn)}" if event.withdrawn else "; ".join(event.reasons)
    return (event.at, what, event.run, now or "-", event.by, event.before or "none", why)


def _run_row(run: Run) -> Sequence[str]:
    mark = " (published)" if run.is_current else ""
    metrics = run.metrics or {}
    ended = str(run.record.get("created", "")) if run.metrics is not None else "no"
    return (run.run_id + mark, ended, *(_cell(metrics.get(key)) for key in _FIGURES))


def _table_row(output: Output) -> Sequence[str]:
    newest = max(output.manifests, key=lambda m: str(m.get("finished", "")), default=None)
    rows = newest["rows"] if newest else {}
    counts = [str(rows.get(status, 0)) if newest else "?" for status in STATUSES]
    return (output.directory, str(output.parts), *counts, size(output.bytes), _users(output))


def _checkpoint_row(output: Output) -> Sequence[str]:
    mark = output.manifests[0] if output.manifests else {"stage": "not finished"}
    told = (str(mark.get("stage", "")), str(mark.get("steps", "")))
    return (output.directory, *told, size(output.bytes), _users(output))


def _users(output: Output) -> str:
    return quantity(len(output.used_by), "run") if output.used_by else "no run"


def _corpus(run: Run) -> dict[str, Any]:
    return {"snapshot": run.record.get("snapshot")}


def _directories(run: Run) -> dict[str, str]:
    return {step["title"]: step["directory"] for step in run.record.get("steps", ())}


def _figures(run: Run) -> dict[str, Any]:
    """Metrics without what only repeats them, names the run, or is of yet another run."""
    return {
        key: value
        for key, value in flatten(run.metrics or {}).items()
        if ".figures." not in key
        and key not in ("run_id", "trust.calibration.reliability")
        and key.partition(".")[0] != "against"
    }


def _change(first: Any, second: Any) -> str:
    numbers = [value for value in (first, second) if isinstance(value, int | float)]
    return f"{numbers[1] - numbers[0]:+.2f}" if len(numbers) == 2 else ""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.2f}" if isinstance(value, float) and abs(value) >= 1 else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
