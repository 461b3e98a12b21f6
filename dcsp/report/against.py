"""What the labels of one run changed against those of another, in figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dcsp.evaluation.changes import Against
from dcsp.labels import IGNORE
from dcsp.report.data import ReportData
from dcsp.report.gallery import swatch
from dcsp.report.markup import Markup, element, join
from dcsp.report.sections import in_card, plain_tile
from dcsp.text import count, percent, quantity


class ClassChange(NamedTuple):
    """Pixels of one class in images that two runs label.

    Attributes:
        class_id: Its id on the page; 255 of what is ignored.
        name: Its name.
        before: Pixels in the first run.
        after: Pixels in the second.
        both: Of these, where the runs agree.
    """

    class_id: int
    name: str
    before: int
    after: int
    both: int


def against_lead(found: Against) -> str:
    """What the section shows."""
    return (
        f"Against the run {found['run']}, which was published before. The gallery shows of each "
        "image how much of it changed, and where; it can be ordered by that. In both: pixels where "
        "the runs agree, in percent of those that either gives the class."
    )


def against_section(run: ReportData) -> Markup | None:
    """How many images and pixels have another label, and of which classes; None where unknown."""
    found = run.against
    if found is None:
        return None
    share = found["changed_share"]
    tiles = change_tiles(found["images_changed"], found["images"], share, "of an image, on average")
    for name, number, note in (
        ("New images", found["images_new"], "labelled by this run alone"),
        ("Images gone", found["images_gone"], "labelled by the run before alone"),
    ):
        if number:
            tiles.append(plain_tile(name, count(number), note))
    ids = {name: id_ for id_, name in enumerate(("background", *run.classes))}
    changes = [
        ClassChange(ids.get(name, IGNORE), name, told["before"], told["after"], told["both"])
        for name, told in found["per_class"].items()
    ]
    return join(
        element("div", tiles, class_="tiles"),
        class_changes(changes, ("before", "now")) if found["images_changed"] and changes else None,
    )


def change_tiles(changed: int, images: int, share: float | None, note: str) -> list[Markup]:
    """Images and pixels that changed."""
    of = f"of {quantity(images, 'image')} that both label"
    pixels = join(percent(None if share is None else 100 * share), element("small", " %"))
    return [
        plain_tile("Images changed", count(changed), of),
        plain_tile("Pixels changed", pixels, note),
    ]


def class_changes(changes: Iterable[ClassChange], titles: tuple[str, str]) -> Markup:
    """Pixels of each class in both runs; those of classes that neither has are left out."""
    head = [element("th", name, class_="num") for name in (*titles, "change, %", "in both, %")]
    rows = []
    for class_id, name, before, after, both in changes:
        if not before and not after:
            continue
        change = f"{100 * (after - before) / before:+.1f}".replace("-", "−") if before else "–"
        kept = percent(100 * both / (before + after - both))
        texts = (count(before), count(after), change, kept)
        rows.append(
            element(
                "tr",
                element("td", swatch(class_id), name, class_="name"),
                [element("td", text, class_="num") for text in texts],
            )
        )
    table = element("table", element("tr", element("th", "Class"), head), rows)
    return in_card(table)
