"""The sections of the report; each gives None where the run has nothing to show in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcsp.evaluation.quality import ClassFigures
from dcsp.report.charts import line_chart
from dcsp.report.data import ReportData
from dcsp.report.gallery import swatch
from dcsp.report.markup import Markup, element, join
from dcsp.report.verdict import Statement
from dcsp.tables.schemas import ERROR, OK, STATUSES
from dcsp.tables.snapshot import TRAIN
from dcsp.text import count, duration, percent, points, quantity, title

_ASIDE = "cue aside"
"""Style of cues that were mined for comparison alone: no step of the chain."""


def findings(statements: Sequence[Statement]) -> Markup:
    """The findings behind the verdict, as a list."""
    items = [element("li", statement.text, class_=statement.level) for statement in statements]
    return element("ul", items, class_="findings")


def tiles(run: ReportData) -> Markup:
    """The headline figures."""
    final, last_cues = run.final, run.cues[-1] if run.cues else None
    images = f"{run.measured_split}, {quantity(final['images'], 'image')}" if final else ""
    measured = f"{images}, {run.measured}" if final else ""
    with_crf = " with CRF" if run.prediction_crf else ""
    labelled = run.rows.get("predictions", {}).get(OK)
    shown = [
        _tile(f"mIoU{with_crf}", final and final["miou"], measured or "no usable masks"),
        _tile("Pixels right", final and final["accuracy"], measured) if final else None,
    ]
    if run.prediction_crf and run.prediction:
        shown.append(_tile("mIoU before the CRF", run.prediction["miou"], measured))
    if run.trust:
        note = f"without masks, {quantity(run.trust['images'], 'image')}"
        if run.trust["calibration"]:
            note = f"calibrated by masks, {quantity(run.trust['images'], 'image')}"
        shown.append(_tile("Expected mIoU", run.trust["expected_miou"], note))
    if labels := run.published.get(TRAIN):
        note = f"train, {quantity(labels['images'], 'image')}, tags used where known"
        shown.append(_tile("mIoU of published labels", labels["miou"], note))
    if last_cues and last_cues.figures:
        images = quantity(last_cues.figures["images"], "image")
        note = f"train, {images}, phase {last_cues.phase}"
        shown.append(_tile("Cue mIoU", last_cues.figures["miou"], note))
    if labelled is not None:
        shown.append(plain_tile("Images labelled", count(labelled), "rows of predictions"))
    if run.seconds:
        reused = f"; {quantity(len(run.reused), 'stage')} reused" if run.reused else ""
        total = _small_units(duration(sum(run.seconds.values())))
        shown.append(plain_tile("Time", total, f"over {len(run.seconds)} stages{reused}"))
    return element("div", shown, class_="tiles")


@dataclass(frozen=True)
class _Step:
    name: str
    where: str
    miou: float
    style: str


def ladder(run: ReportData) -> Markup | None:
    """Mean IoU at each step from the first cues to the published labels, with the gains."""
    steps = _steps(run)
    if not steps:
        return None
    rungs: list[Markup] = []
    before: _Step | None = None
    for step in steps:
        follows = before is not None and before.style == step.style != _ASIDE
        gain = step.miou - before.miou if before is not None and follows else None
        tone = "" if gain is None else " up" if gain > 0 else " down" if gain < 0 else ""
        rungs.append(
            element(
                "div",
                element(
                    "span", step.name, element("span", step.where, class_="where"), class_="name"
                ),
                bar(step.miou, step.style),
                element("span", percent(step.miou), class_="num"),
                element("span", None if gain is None else points(gain), class_=f"gain{tone}"),
                class_="step",
            )
        )
        before = step
    return element("div", element("div", rungs, class_="ladder"), class_="card")


def class_table(run: ReportData) -> Markup | None:
    """Figures of each class, without and with the CRF."""
    final = run.final
    if final is None:
        return None
    columns = ["IoU", "Precision", "Recall", "Share of pixels"]
    crf = run.prediction if run.prediction_crf else None
    cues = run.cues[-1].figures if run.cues else None
    if crf:
        columns[0:1] = ["IoU before CRF", "IoU with CRF"]
    header = [
        element("th", "Class"),
        element("th", "Cue IoU", class_="num") if cues else None,
        [element("th", name, class_="num") for name in columns[:-3]],
        element("th", "", class_="wide"),
        [element("th", name, class_="num") for name in columns[-3:]],
    ]
    ids = {name: index for index, name in enumerate(("background", *run.classes))}
    rows = [
        element(
            "tr",
            element("td", swatch(ids[name]), name, class_="name"),
            _number(cues["per_class"][name]["iou"]) if cues else None,
            _number(crf["per_class"][name]["iou"]) if crf else None,
            _class_cells(figures),
        )
        for name, figures in final["per_class"].items()
    ]
    mean = element(
        "tr",
        element("td", "mean"),
        _number(cues["miou"]) if cues else None,
        _number(crf["miou"]) if crf else None,
        _number(final["miou"]),
        element("td", bar(final["miou"] or 0.0), class_="wide"),
        [element("td", "", class_="num")] * 3,
        class_="total",
    )
    table = element("table", element("tr", header), rows, mean)
    return in_card(table)


def curves(run: ReportData) -> Markup | None:
    """The losses of each training stage."""
    if not run.curves:
        return None
    cards = [
        element(
            "div",
            element("h3", title(curve.stage), _reused(curve.stage, run.reused)),
            line_chart(curve.losses, f"losses of {title(curve.stage)}"),
            class_="card",
        )
        for curve in run.curves
    ]
    return element("div", cards, class_="curves")


def tables_and_time(run: ReportData) -> Markup | None:
    """Rows of each table by status, rejections, and seconds of each stage."""
    cards = [_rows_card(run), _seconds_card(run)]
    shown = [card for card in cards if card is not None]
    return element("div", shown, class_="two") if shown else None


def provenance(run: ReportData) -> Markup:
    """Fingerprints, versions and the whole of the settings, folded away."""
    settings = element("pre", run.settings, class_="mono", tabindex=0)
    blocks = [
        ("Fingerprints", _definitions({title(k): v for k, v in run.fingerprints.items()})),
        ("Settings", settings if run.settings else None),
        ("Versions", _definitions(run.versions)),
    ]
    return join(
        element("details", element("summary", heading), content)
        for heading, content in blocks
        if content is not None
    )


def _steps(run: ReportData) -> list[_Step]:
    steps = [
        _Step(f"Cues of phase 0, settings “{name}”", "train", figures["miou"], _ASIDE)
        for name, figures in run.compared.items()
        if figures and figures["miou"] is not None
    ]
    starts = [("Cues that phase 0 starts from", start) for start in run.start]
    for name, phase in (*starts, *((f"Cues of phase {p.phase}", p) for p in run.cues)):
        if phase.miou_first_pass is not None:
            first = f"{name}, one saliency pass"
            steps.append(_Step(first, "train", phase.miou_first_pass, "cue"))
        if phase.figures and phase.figures["miou"] is not None:
            steps.append(_Step(f"{name} ({phase.method})", "train", phase.figures["miou"], "cue"))
    for name, where, figures, style in (
        ("Published labels", TRAIN, run.published.get(TRAIN), "cue"),
        ("The network alone", run.measured_split, run.prediction, ""),
        ("The network with dense CRF", run.measured_split, run.prediction_crf, ""),
    ):
        if figures and figures["miou"] is not None:
            steps.append(_Step(name, where, figures["miou"], style))
    return steps


def _class_cells(figures: ClassFigures) -> Markup:
    return join(
        _number(figures["iou"]),
        element("td", bar(figures["iou"] or 0.0), class_="wide"),
        _number(figures["precision"]),
        _number(figures["recall"]),
        _number(figures["share"]),
    )


def _rows_card(run: ReportData) -> Markup | None:
    if not run.rows:
        return None
    header = [element("th", "Table"), [element("th", name, class_="num") for name in STATUSES]]
    rows = [
        element(
            "tr",
            element("td", title(table)),
            [_status_cell(status, statuses.get(status, 0)) for status in STATUSES],
        )
        for table, statuses in run.rows.items()
    ]
    rejected = [
        element("tr", element("td", reason), element("td", count(number), class_="num"))
        for reason, number in sorted(run.rejected.items())
    ]
    rejections = (
        join(
            element("h3", "Rejected at ingest", class_="later"),
            element("table", rejected),
        )
        if rejected
        else None
    )
    return element(
        "div",
        element("h3", "Rows by status"),
        element("table", element("tr", header), rows),
        rejections,
        class_="card",
    )


def _seconds_card(run: ReportData) -> Markup | None:
    if not run.seconds:
        return None
    longest = max(run.seconds.values()) or 1.0
    rows = [
        element(
            "tr",
            element("td", title(stage), _reused(stage, run.reused)),
            element("td", bar(100 * seconds / longest), class_="wide"),
            element("td", duration(seconds), class_="num"),
        )
        for stage, seconds in run.seconds.items()
    ]
    return element("div", element("h3", "Time by stage"), element("table", rows), class_="card")


def _status_cell(status: str, number: int) -> Markup:
    tone = " zero" if not number else " alert" if status == ERROR else ""
    return element("td", count(number), class_=f"num{tone}")


def _definitions(values: Mapping[str, str]) -> Markup | None:
    if not values:
        return None
    rows = [
        element("tr", element("td", name), element("td", value, class_="mono"))
        for name, value in values.items()
    ]
    return element("table", rows)


def _reused(stage: str, reused: frozenset[str]) -> Markup | None:
    return element("span", "reused", class_="badge") if stage in reused else None


def _tile(name: str, value: float | None, note: str) -> Markup:
    shown = join(percent(value), element("small", " %") if value is not None else None)
    return plain_tile(name, shown, note)


def in_card(table: Markup, *more: Markup | None) -> Markup:
    """A table that scrolls where it is too wide, by keys too, and what stands below it."""
    return element("div", element("div", table, class_="scroll", tabindex=0), more, class_="card")


def plain_tile(name: str, value: str, note: str) -> Markup:
    """A headline figure with its name above and a note below."""
    return element(
        "div",
        element("p", name, class_="name"),
        element("p", value, class_="value"),
        element("p", note, class_="note"),
        class_="tile",
    )


def _small_units(text: str) -> Markup:
    """Numbers in full size, the units after them small."""
    words = text.split(" ")
    return join(*(element("small", f" {w} ") if i % 2 else w for i, w in enumerate(words)))


def _number(value: float | None) -> Markup:
    return element("td", percent(value), class_="num" if value is not None else "num zero")


def bar(share: float, style: str = "") -> Markup:
    """A bar of a length of 0-100 percent."""
    width = min(max(share, 0.0), 100.0)
    drawn = element("rect", width=f"{width:.1f}%", height="100%")
    return element("svg", drawn, class_=f"bar {style}".rstrip(), aria_hidden="true")
