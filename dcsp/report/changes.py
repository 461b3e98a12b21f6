"""The page of two runs: what their labels changed, and the most changed images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcsp.evaluation.changes import Changes, class_pairs, names
from dcsp.labels import IGNORE
from dcsp.report.against import ClassChange, change_tiles, class_changes
from dcsp.report.data import Card
from dcsp.report.earlier import ChangedLabels, compare
from dcsp.report.gallery import gallery, swatch
from dcsp.report.layers import Pictures
from dcsp.report.markup import Markup, element, join
from dcsp.report.page import document, header, section
from dcsp.report.sections import bar, in_card, plain_tile
from dcsp.report.steps import explain_command
from dcsp.text import count, percent

_MOST_PAIRS = 12
"""Pairs of classes that are shown."""
_STYLE = """
.more { color: var(--faint); font-size: 13px; margin-top: 8px; }
.differences td { vertical-align: top; overflow-wrap: anywhere; }
"""
_MOST = 200_000
"""Bytes of the layers of an image: a page of 24 of them has some megabytes."""

Differences = Mapping[str, Sequence[Sequence[str]]]
"""What two runs differ in, such as ``settings`` → rows of a key and the values of both."""


@dataclass(frozen=True, eq=False)
class TwoRuns:
    """All that the page shows.

    Attributes:
        ids: Of the two runs.
        store: Where they are.
        classes: Names of both runs' classes.
        changes: What changed.
        images: The most changed, most first.
        differences: What else differs.
    """

    ids: tuple[str, str]
    store: str
    classes: Sequence[str]
    changes: Changes
    images: Sequence[ChangedLabels]
    differences: Differences


def build_changes_page(runs: TwoRuns) -> str:
    """Write the page.

    Args:
        runs: What is shown.

    Returns:
        A whole HTML document; every text is escaped and every picture is inlined.
    """
    first, second = runs.ids
    body = element(
        "main",
        header("two runs side by side", f"{first} → {second}", [("store", runs.store)]),
        _tiles(runs.changes),
        section(
            "From class to class",
            f"Pixels that {first} labels as one class and {second} as another, most first; in "
            "percent of all pixels that changed.",
            _pairs(runs),
        ),
        section(
            "Class by class",
            "Pixels of each class in images that both runs label; in both: those where the runs "
            "agree, in percent of those that either gives the class.",
            _classes(runs),
        ),
        section(
            "Most changed images",
            "Each photograph with the labels of the second run; choose one to see those of the "
            "first, and where they differ.",
            _gallery(runs) if runs.images else None,
        ),
        section("What else differs", None, _differences(runs)),
        element("footer", f"dcsp diff of {first} and {second}"),
    )
    return document(f"{first} → {second}", body, _STYLE, has_script=True)


def _tiles(changes: Changes) -> Markup:
    share = changes.pixels_changed / changes.pixels if changes.pixels else None
    of = f"{count(changes.pixels_changed)} of {count(changes.pixels)}"
    shown = change_tiles(changes.images_changed, changes.images, share, of)
    for name, number, note in (
        ("New images", changes.new, "labelled by the second run alone"),
        ("Images gone", changes.gone, "labelled by the first run alone"),
        ("Labels lost", changes.lost, "images that failed or were skipped"),
        ("Labels gained", changes.gained, "images that had none"),
        ("Resized", changes.resized, "images of another size, no pixel compared"),
    ):
        if number:
            shown.append(plain_tile(name, count(number), note))
    return element("div", shown, class_="tiles")


def _pairs(runs: TwoRuns) -> Markup | None:
    pairs = class_pairs(runs.changes, runs.classes)
    if not pairs:
        return None
    ids = dict(zip(names(runs.classes), (*range(len(runs.classes) + 1), IGNORE), strict=True))
    rows = [
        element(
            "tr",
            element("td", swatch(ids[pair.before]), pair.before, class_="name"),
            element("td", swatch(ids[pair.after]), pair.after, class_="name"),
            element("td", count(pair.pixels), class_="num"),
            element("td", bar(100 * pair.share), class_="wide"),
            element("td", percent(100 * pair.share), class_="num"),
        )
        for pair in pairs[:_MOST_PAIRS]
    ]
    left = len(pairs) - _MOST_PAIRS
    titles = [element("th", first_run) for first_run in runs.ids]
    head = element(
        "tr",
        titles,
        element("th", "Pixels", class_="num"),
        element("th", "", class_="wide"),
        element("th", "%", class_="num"),
    )
    more = element("p", f"and {left} more", class_="more") if left > 0 else None
    return in_card(element("table", head, rows), more)


def _classes(runs: TwoRuns) -> Markup | None:
    table = runs.changes.counts
    if not runs.changes.pixels:
        return None
    ids = (*range(len(runs.classes) + 1), IGNORE)
    sums = (table.sum(axis=1), table.sum(axis=0), np.diag(table))
    told = zip(ids, names(runs.classes), *(column.tolist() for column in sums), strict=True)
    return class_changes((ClassChange(*row) for row in told), runs.ids)


def _gallery(runs: TwoRuns) -> Markup:
    cards = [_card(image, runs.ids) for image in runs.images]
    return gallery(cards, runs.classes, explain_command(runs.ids[1], runs.store))


def _card(image: ChangedLabels, ids: tuple[str, str]) -> Card:
    both = {ids[1]: image.after, ids[0]: image.before}
    missing = [f"{run} has no label of it" for run, labels in both.items() if labels is None]
    changed = compare(image.before, image.after)[1]
    if changed is None and not missing:
        missing = ["of another size"]
    labels = {run: found for run, found in both.items() if found is not None}
    shown = {id_ for found in labels.values() for id_ in np.unique(found).tolist()}
    return Card(
        image.image_id,
        "",
        image.tags,
        shown=sorted(shown - {0, IGNORE}),
        changed=image.share,
        error=missing[0] if missing else None,
        layers=Pictures(image.image, labels, changed).layers(_MOST),
    )


def _differences(runs: TwoRuns) -> Markup | None:
    blocks = [
        element("details", element("summary", title.capitalize()), _difference_table(runs, rows))
        for title, rows in runs.differences.items()
        if rows
    ]
    return join(blocks) if blocks else None


def _difference_table(runs: TwoRuns, rows: Sequence[Sequence[str]]) -> Markup:
    head = ["", *runs.ids, *(["change"] if len(rows[0]) > 3 else [])]
    table = element(
        "table",
        element("tr", [element("th", name) for name in head]),
        [element("tr", [element("td", cell, class_="mono") for cell in row]) for row in rows],
    )
    return element("div", table, class_="scroll differences", tabindex=0)
