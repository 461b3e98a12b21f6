"""The sheet of one image as a page and as a picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcsp.report.gallery import class_name, figure, swatch, tag_spans
from dcsp.report.markup import Markup, element, join
from dcsp.report.page import document, header, section
from dcsp.report.panels import SIDE, Picture
from dcsp.report.sections import bar, in_card
from dcsp.report.sheet import Sheet
from dcsp.tables.schemas import ERROR
from dcsp.text import percent, shown, title

_STYLE = """
.sheet .panels { grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 16px 12px; }
.sheet .tags { margin-top: 14px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 3px 18px; }
td { overflow-wrap: anywhere; }
"""
_COLUMNS, _GAP, _MARGIN = 4, 16, 28
_LINE, _CAPTION = 20, 24
"""Heights in pixels of a line of text and of a caption."""
_PAPER, _INK, _FAINT = (251, 250, 248), (29, 31, 35), (93, 99, 110)
_LETTERS = 165
"""Letters of a line that the width of a picture holds."""


def build_sheet_page(sheet: Sheet) -> str:
    """The sheet as a whole HTML document; every text is escaped and every picture is inlined."""
    figures = [figure(sheet.image_id, *panel) for panel in sheet.panels.items()]
    body = element(
        "main",
        header("one image, step by step", sheet.image_id, [("run", sheet.run_id), *sheet.facts]),
        element("p", tag_spans(sheet.tags, sheet.classes), class_="tags"),
        [element("p", note, class_="problem") for note in sheet.notes],
        section(
            "From the image to its label",
            "In the order in which the run made them; click a picture to enlarge it.",
            element("div", figures, class_="panels"),
        ),
        section("Published label", _rule(sheet), _areas(sheet)),
        section("Trust", None, _trust(sheet)),
        section("Rows", "What each table has of this image.", _rows(sheet)),
        element("footer", f"dcsp sheet of {sheet.image_id} in {sheet.run_id}"),
        class_="sheet",
    )
    return document(sheet.image_id, body, _STYLE)


def sheet_document(sheet: Sheet) -> dict[str, Any]:
    """What the sheet says without its pictures, as JSON values."""
    score, reasons = sheet.trust or (None, ())
    return {
        "image": sheet.image_id,
        "run": sheet.run_id,
        "tags": [class_name(tag, sheet.classes) for tag in sheet.tags],
        "facts": dict(sheet.facts),
        "rows": [row._asdict() for row in sheet.rows],
        "rule": sheet.rule,
        "areas": [
            {"class": class_name(area.class_id, sheet.classes), **area._asdict()}
            for area in sheet.areas
        ],
        "trust": score,
        "reasons": reasons,
        "notes": sheet.notes,
    }


def sheet_lines(sheet: Sheet) -> list[str]:
    """What the sheet says in words, a line each, of whatever strangers wrote."""
    tags = ", ".join(class_name(tag, sheet.classes) for tag in sheet.tags) or "no tags"
    lines = [f"image: {sheet.image_id}", f"run: {sheet.run_id}", f"tags: {tags}"]
    lines += [f"{name}: {value}" for name, value in sheet.facts]
    for row in sheet.rows:
        lines.append(f"{title(row.title)}: {row.status}" + (f", {row.error}" if row.error else ""))
    if sheet.rule:
        lines.append(f"published: {_rule(sheet)}")
    for area in sheet.areas:
        told = f"{percent(100 * area.share)} % of the pixels, confidence {area.confidence:.2f}"
        lines.append(f"{class_name(area.class_id, sheet.classes)}: {told}")
    if sheet.trust:
        score, reasons = sheet.trust
        lines.append(f"trust: {score:.2f}" + (f" ({'; '.join(reasons)})" if reasons else ""))
    return [shown(line) for line in (*lines, *sheet.notes)]


def draw_sheet(sheet: Sheet) -> bytes:
    """The sheet as one picture, a PNG: panels with their titles, what is said in words below."""
    panels = [(name, _enlarged(picture)) for name, picture in sheet.panels.items()]
    rows = [panels[start : start + _COLUMNS] for start in range(0, len(panels), _COLUMNS)]
    told = [wrapped for line in sheet_lines(sheet) for wrapped in textwrap.wrap(line, _LETTERS)]
    heights = [max(picture.height for _, picture in row) + _CAPTION + _GAP for row in rows]
    width = 2 * _MARGIN + _COLUMNS * SIDE + (_COLUMNS - 1) * _GAP
    height = 2 * _MARGIN + sum(heights) + _LINE * len(told)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    top = _MARGIN
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(page, draw, top, row)
        top += row_height
    font = ImageFont.load_default(15)
    for number, line in enumerate(told):
        draw.text((_MARGIN, top + number * _LINE), line, _INK, font)
    sink = io.BytesIO()
    page.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _draw_row(
    page: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: Sequence[tuple[str, Image.Image]]
) -> None:
    font = ImageFont.load_default(14)
    for column, (caption, picture) in enumerate(row):
        left = _MARGIN + column * (SIDE + _GAP)
        page.paste(picture, (left, top))
        told = textwrap.shorten(shown(caption), 46, placeholder=" …")
        draw.text((left, top + picture.height + 4), told, _FAINT, font)


def _enlarged(picture: Picture) -> Image.Image:
    """A picture whose longest side is that of a panel."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image


def _rule(sheet: Sheet) -> str:
    rules = {
        "network": "by the network alone",
        "corrected": "by a person, who corrected it",
        "tags": "by the network among background and tags",
        "cues": "by the network and saliency among background and tags (Algorithm 1)",
    }
    return rules.get(sheet.rule, f"by {sheet.rule}" if sheet.rule else "")


def _areas(sheet: Sheet) -> Markup | None:
    if not sheet.areas:
        return None
    head = [
        element("th", "Class"),
        element("th", "% of pixels", class_="num"),
        element("th", "", class_="wide"),
        element("th", "Confidence", class_="num"),
    ]
    rows = [
        element(
            "tr",
            element(
                "td",
                swatch(area.class_id),
                class_name(area.class_id, sheet.classes),
                class_="name",
            ),
            element("td", percent(100 * area.share), class_="num"),
            element("td", bar(100 * area.share), class_="wide"),
            element("td", f"{area.confidence:.2f}", class_="num"),
        )
        for area in sheet.areas
    ]
    return element("div", element("table", element("tr", head), rows), class_="card")


def _trust(sheet: Sheet) -> Markup | None:
    if sheet.trust is None:
        return None
    score, reasons = sheet.trust
    listed = element("ul", [element("li", reason) for reason in reasons]) if reasons else None
    return element("div", join(element("p", element("b", f"{score:.2f}")), listed), class_="card")


def _rows(sheet: Sheet) -> Markup:
    head = [element("th", name) for name in ("Step", "Table", "Status", "Error")]
    rows = [
        element(
            "tr",
            element("td", title(row.title), class_="name"),
            element("td", row.directory, class_="mono"),
            element("td", row.status, class_="alert" if row.status == ERROR else None),
            element("td", row.error),
        )
        for row in sheet.rows
    ]
    table = element("table", element("tr", head), rows)
    return in_card(table)
