"""The pages of a comparison in the look of the report: its table, and its gallery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dcsp.comparison.gallery import ComparedImage
from dcsp.comparison.table import NOTES, Row, best_rows, shown_figures
from dcsp.comparison.text import cell, heading
from dcsp.report.gallery import agreement, figure, legend, tag_spans
from dcsp.report.markup import Markup, element, join
from dcsp.report.page import document, header, section
from dcsp.report.panels import overlay_labels, shrink
from dcsp.report.sections import in_card
from dcsp.tables.layout import report_file
from dcsp.text import percent

TABLE_PAGE, GALLERY_PAGE = "index.html", "gallery.html"
TO_STORE = "../.."
"""From a comparison's directory to the store's root."""
STYLE = """
a { color: var(--accent); text-underline-offset: 2px; }
main { max-width: 1500px; }
th.tall { white-space: normal; min-width: 5.5em; vertical-align: bottom; }
td.best { color: var(--good); font-weight: 600; }
.notes { font-size: 13.5px; color: var(--soft); max-width: 90ch; margin-top: 12px; }
.made { display: flex; flex-wrap: wrap; gap: 16px 28px; margin-top: 14px; }
.made .panels { grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: 148px; }
.made section { max-width: 100%; overflow-x: auto; }
.made h4 { font-size: 13px; font-weight: 500; margin: 0 0 6px; overflow-wrap: anywhere; }
"""


def build_table_page(title: str, rows: Sequence[Row], facts: Sequence[tuple[str, str]]) -> str:
    """The page with the table.

    Args:
        title: Name of the comparison.
        rows: The combinations.
        facts: Name and value of what else is told in the head.

    Returns:
        A whole HTML document; it links to the gallery beside it and to the reports of the runs.
    """
    body = element(
        "main",
        header("comparison of settings", title, facts),
        section(
            "Side by side",
            "One row for each combination of settings; the best of a column is marked.",
            in_card(_table(rows)),
        ),
        [element("p", note, class_="notes") for note in NOTES],
        section(
            "The same images under every combination",
            None,
            element("p", element("a", "Open the gallery", href=GALLERY_PAGE)),
        ),
        section("Reports of the runs", None, _reports(rows)),
        element("footer", f"dcsp comparison {title}"),
    )
    return document(title, body, STYLE)


def build_gallery_page(title: str, images: Sequence[ComparedImage], classes: Sequence[str]) -> str:
    """The page that shows the same images under every combination.

    Args:
        title: Name of the comparison.
        images: The images in order.
        classes: Class names in id order, background left out.

    Returns:
        A whole HTML document; every picture is inlined.
    """
    ids = {id_ for image in images for id_ in _ids(image)}
    shown = join(legend(ids, classes), [_article(image, classes) for image in images])
    nothing = (
        "No image to show: report.gallery is 0, or the corpora of the runs have none in common."
    )
    body = element(
        "main",
        header("comparison of settings", title, [("images", str(len(images)))]),
        element("p", element("a", "Back to the table", href=TABLE_PAGE), class_="notes"),
        section(
            "Gallery",
            "Each image with its ground truth where there is one, then, for every combination (its "
            "first seed): the cues of the first and the last phase, which training images have, "
            "and the prediction, each with its IoU on this image. Click a picture to enlarge it.",
            shown if images else element("p", nothing, class_="muted"),
        ),
        element("footer", f"dcsp comparison {title}"),
    )
    return document(f"{title}, gallery", body, STYLE)


def _table(rows: Sequence[Row]) -> Markup:
    figures = shown_figures(rows)
    best = {one.name: best_rows(rows, one) for one in figures}
    titles = [
        [element("th", name) for name in rows[0].settings],
        element("th", "n", class_="num"),
        [element("th", heading(one), class_="num tall") for one in figures],
    ]
    lines = [
        element(
            "tr",
            [element("td", value, class_="name") for value in row.settings.values()],
            element("td", str(len(row.run_ids)), class_="num"),
            [
                element(
                    "td",
                    cell(row.figures[one.name], one),
                    class_="num best" if index in best[one.name] else "num",
                )
                for one in figures
            ],
        )
        for index, row in enumerate(rows)
    ]
    return element("table", element("tr", titles), lines)


def _reports(rows: Sequence[Row]) -> Markup:
    lines = [
        element(
            "tr",
            element("td", row.label),
            element("td", element("a", run, href=f"{TO_STORE}/{report_file(run)}"), class_="mono"),
        )
        for row in rows
        for run in row.run_ids
    ]
    return element("div", element("table", lines), class_="card")


def _article(image: ComparedImage, classes: Sequence[str]) -> Markup:
    picture = shrink(image.image)
    given = [figure(image.image_id, "image", picture)]
    if image.truth is not None:
        labels = overlay_labels(picture, image.truth)
        given.append(figure(image.image_id, "ground truth", labels))
    return element(
        "article",
        element(
            "header",
            element("h3", image.image_id),
            element("span", image.split, class_="split"),
            tag_spans(image.tags, classes),
        ),
        element("div", given, class_="panels"),
        element("div", list(_made(image, classes)), class_="made"),
        class_="row",
    )


def _made(image: ComparedImage, classes: Sequence[str]) -> Iterator[Markup]:
    """What each combination made of an image."""
    picture = shrink(image.image)
    for label, made in image.made.items():
        figures = []
        for title, labels in made.items():
            score = agreement(labels, image.truth)
            caption = title if score is None else f"{title}, IoU {percent(score)}"
            figures.append(figure(image.image_id, caption, overlay_labels(picture, labels)))
        content = element("div", figures, class_="panels") if figures else element("p", "nothing")
        yield element("section", element("h4", label), content)


def _ids(image: ComparedImage) -> set[int]:
    """Class ids that an image is tagged or labelled with, for the legend."""
    maps = [image.truth, *(labels for made in image.made.values() for labels in made.values())]
    return {*image.tags, *(id_ for m in maps if m is not None for id_ in np.unique(m).tolist())}
