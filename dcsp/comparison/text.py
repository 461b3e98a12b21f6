"""The table of a comparison as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dcsp.comparison.table import FIGURES, NOTES, Figure, Row, Spread, best_rows, shown_figures
from dcsp.text import shown, spreadsheet_cell

MISSING = "–"


def cell(value: Spread | None, figure: Figure) -> str:
    """A mean with its spread, such as ``52.1 ± 0.3``, in the column's decimals."""
    if value is None:
        return MISSING
    mean = f"{value.mean:.{figure.digits}f}"
    return mean if value.deviation is None else f"{mean} ± {value.deviation:.{figure.digits}f}"


def heading(figure: Figure) -> str:
    """The title of a column with its unit."""
    return f"{figure.title}, {figure.unit}"


def as_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table; the best mean of a column is bold, columns without a value are left out."""
    figures = shown_figures(rows)
    best = {figure.name: best_rows(rows, figure) for figure in figures}
    names = list(rows[0].settings)
    lines = [
        _line([*names, "n", *map(heading, figures)]),
        _line([*["---"] * len(names), *["---:"] * (len(figures) + 1)]),
    ]
    for index, row in enumerate(rows):
        shown = [cell(row.figures[figure.name], figure) for figure in figures]
        bold = [index in best[figure.name] for figure in figures]
        cells = [f"**{text}**" if mark else text for text, mark in zip(shown, bold, strict=True)]
        lines.append(_line([*row.settings.values(), str(len(row.run_ids)), *cells]))
    return "\n".join([*lines, "", *(f"{note}\n" for note in NOTES)])


def as_csv(rows: Sequence[Row]) -> str:
    """Every figure as three columns: its mean, ``…_sd`` and ``…_n``; empty where unmeasured."""
    columns = [name for f in FIGURES for name in (f.name, f"{f.name}_sd", f"{f.name}_n")]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*map(spreadsheet_cell, rows[0].settings), "runs", *columns])
    for row in rows:
        values: list[Any] = []
        for figure in FIGURES:
            found = row.figures[figure.name]
            values += [found.mean, found.deviation, found.n] if found else [None, None, 0]
        told = map(spreadsheet_cell, (*row.settings.values(), " ".join(row.run_ids)))
        writer.writerow([*told, *values])
    return sink.getvalue()


def as_tree(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The table as JSON values, with what its columns mean."""
    best = {figure.name: sorted(best_rows(rows, figure)) for figure in FIGURES}
    return {
        "name": name,
        "figures": [asdict(figure) for figure in FIGURES],
        "rows": [
            {
                "settings": dict(row.settings),
                "runs": list(row.run_ids),
                "figures": {k: asdict(v) if v else None for k, v in row.figures.items()},
                "best": [figure for figure, indices in best.items() if index in indices],
            }
            for index, row in enumerate(rows)
        ],
        "notes": list(NOTES),
    }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(shown(cell).replace('|', chr(92) + '|') for cell in cells)} |"
