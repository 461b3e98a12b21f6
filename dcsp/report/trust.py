"""The section on trust: what is expected of the labels, why, and how well that tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dcsp.evaluation.quality import Figures
from dcsp.evaluation.trust import Calibration, TrustFigures
from dcsp.report.data import ReportData
from dcsp.report.markup import Markup, element, join
from dcsp.text import count, percent, quantity
from dcsp.trust.score import REASONS

_SIDE, _MARGIN = 220, 34


def trust_lead(found: TrustFigures) -> str:
    """What the section shows, in a sentence or two."""
    lead = (
        f"What the tables say of {quantity(found['images'], 'labelled image')}, without any mask: "
        "the IoU with the truth that is to be expected, and what lowers it."
    )
    if found["calibration"]:
        lead += f" Calibrated on {quantity(found['calibration']['images'], 'image')} with masks."
    return lead


def trust_section(run: ReportData) -> Markup | None:
    """Expected IoU of each class, the commonest reasons, and a reliability plot where masks are."""
    found = run.trust
    if found is None:
        return None
    cards = [_classes(found), _reasons(found)]
    if found["calibration"]:
        cards.append(_reliability(found["calibration"]))
    if any(run.corrections.values()):
        cards.append(_corrections(run.corrections))
    return element("div", cards, class_="curves")


def _classes(found: TrustFigures) -> Markup:
    names = ("Class", "Expected", "Images", "None")
    rows = [
        element(
            "tr",
            element("td", name, class_="name"),
            _cell(percent(told["expected_iou"])),
            _cell(count(int(told["images"] or 0))),
            _cell(count(int(told["without_pixels"] or 0))),
        )
        for name, told in found["per_class"].items()
    ]
    total = element(
        "tr",
        element("td", "with background"),
        _cell(percent(found["expected_miou"])),
        _cell(count(found["images"])),
        _cell(""),
        class_="total",
    )
    note = (
        "Expected IoU in percent; images that show the class, and those tagged so that show none."
    )
    told = element("p", note, class_="muted")
    return _card("Expected, by class", _table(names, [*rows, total]), told)


def _reasons(found: TrustFigures) -> Markup:
    rows = [
        element("tr", element("td", REASONS[reason]), _cell(count(number)))
        for reason, number in found["reasons"].items()
    ]
    quantiles = ", ".join(f"{q} %: {100 * s:.0f}" for q, s in found["quantiles"].items())
    return _card(
        "What lowers trust",
        _table(("Of a class of an image", "Times"), rows)
        if rows
        else element("p", "Nothing.", class_="muted"),
        element("p", f"Trust that so many images are below: {quantiles}.", class_="muted"),
    )


def _corrections(found: Mapping[str, Figures | None]) -> Markup:
    """How labels compare with corrections that nothing was learned from."""
    names = {"cues": "last cues", "network": "network alone", "labels": "labels but for them"}
    rows = [
        element(
            "tr",
            element("td", names[name]),
            _cell(percent(told["miou"])),
            _cell(count(told["images"])),
        )
        for name, told in found.items()
        if told
    ]
    note = (
        "mIoU in percent on corrected images without masks that no network learned the correction "
        "of. Where images were picked for their low trust, all images are better than these."
    )
    told = element("p", note, class_="muted")
    return _card("Against corrections", _table(("Of", "mIoU", "Images"), rows), told)


def _reliability(found: Calibration) -> Markup:
    """Mean true IoU of ten groups of images against their mean score: a diagonal would be exact."""

    def place(value: float) -> float:
        return _MARGIN + value * (_SIDE - _MARGIN - 8)

    def down(value: float) -> float:
        return _SIDE - place(value)

    ticks = [
        join(
            _text(f"{100 * t:.0f}", place(t), _SIDE - 16, "middle"),
            _text(f"{100 * t:.0f}", _MARGIN - 8, down(t) + 4, "end"),
            element("path", d=f"M{_MARGIN} {down(t):.1f}H{_SIDE - 8}", class_="grid"),
        )
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    diagonal = f"M{place(0):.1f} {down(0):.1f}L{place(1):.1f} {down(1):.1f}"
    points = [
        element("circle", cx=f"{place(x):.1f}", cy=f"{down(y):.1f}", r=4, class_="dot")
        for x, y in ((group["score"], group["iou"]) for group in found["reliability"])
    ]
    chart = element(
        "svg",
        ticks,
        element("path", d=diagonal, class_="line raw s0"),
        points,
        _text("score", _SIDE / 2, _SIDE - 2, "middle"),
        viewBox=f"0 0 {_SIDE} {_SIDE}",
        role="img",
        aria_label="true IoU of images by their score",
        class_="chart square",
    )
    told = [
        f"{name} {value:.2f}"
        for name, value in (
            ("rank correlation", found["spearman"]),
            ("area under the curve for an IoU below 50 %", found["auc"]),
        )
        if value is not None
    ]
    return _card(
        "How well it tells",
        chart,
        element("p", f"True IoU by score, in ten groups; {', '.join(told)}.", class_="muted"),
    )


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _table(names: Sequence[str], rows: Sequence[Markup]) -> Markup:
    head = [element("th", name, class_="num" if n else None) for n, name in enumerate(names)]
    return element("div", element("table", element("tr", head), rows), class_="scroll", tabindex=0)


def _card(title: str, *content: Markup) -> Markup:
    return element("div", element("h3", title), content, class_="card")


def _cell(text: str) -> Markup:
    return element("td", text, class_="num")
