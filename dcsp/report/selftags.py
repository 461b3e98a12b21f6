"""The section on self-tags: what their thresholds rest on, and how many images got which."""

from __future__ import annotations

from dcsp.evaluation.selftags import ClassSelfTags, SelfTagFigures
from dcsp.report.data import ReportData
from dcsp.report.markup import Markup, element
from dcsp.report.sections import in_card
from dcsp.text import count, percent, quantity

_COLUMNS = (
    "Threshold",
    "Precision",
    "at least",
    "Recall",
    "Images that reach it",
    "Tagged images",
    "Self-tagged images",
)


def selftag_lead(found: SelfTagFigures) -> str:
    """What the table shows, in a sentence or two."""
    seen = "held out" if found["held_out"] else "that the network has learned from"
    images = f"{quantity(found['calibrated_on'], 'tagged image')} of the split {found['split']}"
    return (
        f"Self-tags of untagged training images, {found['use']}: thresholds for a precision of "
        f"{percent(100 * found['precision'])} %, calibrated on {images}, {seen}. “At least” is the "
        "lower bound of the precision's 95 % confidence interval; a dash is a class that no "
        f"threshold reached by {quantity(found['min_support'], 'tagged image')} makes as precise."
    )


def selftag_table(run: ReportData) -> Markup | None:
    """Thresholds and self-tagged images of each class; None for a run without self-tags."""
    found = run.selftags
    if found is None:
        return None
    header = [element("th", "Class"), [element("th", name, class_="num") for name in _COLUMNS]]
    rows = [
        element("tr", element("td", name, class_="name"), _cells(figures))
        for name, figures in found["per_class"].items()
    ]
    table = element("table", element("tr", header), rows)
    return in_card(table)


def _cells(figures: ClassSelfTags) -> list[Markup]:
    threshold = figures["threshold"]
    shares = (figures["precision"], figures["lower"], figures["recall"])
    texts = [
        "–" if threshold is None else f"{threshold:.3f}",
        *(percent(None if share is None else 100 * share) for share in shares),
        *(count(figures[name]) for name in ("reached", "tagged", "images")),
    ]
    return [element("td", text, class_="num") for text in texts]
