"""The page of two runs: what their labels changed, and the most changed images side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.evaluation.changes import ChangedImage, Changes, class_pairs, names
from dcsp.evaluation.pairing import Comparison
from dcsp.labels import IGNORE
from dcsp.report.collect import decode_image
from dcsp.report.data import GalleryItem
from dcsp.report.gallery import figure, legend, swatch, tag_spans
from dcsp.report.markup import Markup, element, join
from dcsp.report.page import document, header, section
from dcsp.report.panels import overlay_changed, overlay_labels, shrink
from dcsp.report.sections import bar, plain_tile
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Part
from dcsp.text import count, percent, quantity

_MOST_PAIRS = 12
"""Pairs of classes that are shown."""
_STYLE = """
.panels { grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
.more { color: var(--faint); font-size: 13px; margin-top: 8px; }
.differences td { vertical-align: top; overflow-wrap: anywhere; }
"""

Labels = NDArray[np.uint8]
Differences = Mapping[str, Sequence[Sequence[str]]]
"""What two runs differ in, such as ``settings`` → rows of a key and the values of both."""


@dataclass(frozen=True, eq=False)
class ChangedLabels:
    """One image with the labels of two runs, whose ids are those of both runs' classes together.

    Attributes:
        image_id: Id of the image.
        share: Of its pixels that changed, in (0, 1].
        tags: Class ids, as the second run knows them.
        image: HWC uint8 RGB.
        before: HW uint8; None where the first run has no label of it.
        after: HW uint8; None where the second run has none.
    """

    image_id: str
    share: float
    tags: Sequence[int]
    image: NDArray[np.uint8]
    before: Labels | None
    after: Labels | None


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


def changed_images(
    store: Store, comparison: Comparison, most: Sequence[ChangedImage]
) -> list[ChangedLabels]:
    """Read the most changed images; of each table the parts that hold one, one after the other.

    Raises:
        StoreError: A table cannot be read.
    """
    work, pairings = comparison.part, comparison.pairings
    ours = {pairing.after.name: pairing.after for pairing in pairings}
    theirs = {part.name: part for pairing in pairings for part in pairing.before}
    after = [(image.image_id, ours[image.after]) for image in most]
    before = [(image.image_id, theirs[image.before]) for image in most]
    columns = ("height", "width", "tags", "bytes")
    images = dict(_rows(store, CORPUS_DIRECTORY, after, columns))
    labels = [
        dict(_rows(store, directory, wanted, ("label",)))
        for directory, wanted in ((work.before, before), (work.after, after))
    ]
    found = []
    for image in most:
        row = images[image.image_id]
        first, second = (table[image.image_id]["label"] for table in labels)
        found.append(
            ChangedLabels(
                image.image_id,
                image.share,
                [tag for tag in row["tags"] if work.ids_after[tag]],  # of distractors none
                decode_image(row, row["height"] * row["width"]),
                _labels(first, work.ids_before, work.classes),
                _labels(second, work.ids_after, work.classes),
            )
        )
    return found


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
            "Each photograph with the labels of both runs, and where they differ. Click a picture "
            "to enlarge it.",
            _gallery(runs) if runs.images else None,
        ),
        section("What else differs", None, _differences(runs)),
        element("footer", f"dcsp diff of {first} and {second}"),
    )
    return document(f"{first} → {second}", body, _STYLE)


def _rows(
    store: Store, directory: str, wanted: Iterable[tuple[str, Part]], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id → row of a table, of images that are in given parts."""
    by_part: defaultdict[Part, list[str]] = defaultdict(list)
    for image_id, part in wanted:
        by_part[part].append(image_id)
    for part, ids in by_part.items():
        table = store.read_table(part_file(directory, part.name), ("image_id", *columns))
        table = live_rows(table, part.dead)
        is_wanted = pc.is_in(table["image_id"], value_set=pa.array(ids))
        for row in table.filter(is_wanted).to_pylist():
            yield row["image_id"], row


def _labels(data: bytes | None, ids: bytes, classes: int) -> Labels | None:
    """Labels by the ids of both runs' classes together."""
    if data is None:
        return None
    labels = np.frombuffer(ids, np.uint8)[decode_labels(data)]
    return np.where(labels > classes, np.uint8(IGNORE), labels)


def _tiles(changes: Changes) -> Markup:
    share = changes.pixels_changed / changes.pixels if changes.pixels else None
    shown = [
        plain_tile(
            "Images changed",
            count(changes.images_changed),
            f"of {quantity(changes.images, 'image')} that both label",
        ),
        plain_tile(
            "Pixels changed",
            join(percent(None if share is None else 100 * share), element("small", " %")),
            f"{count(changes.pixels_changed)} of {count(changes.pixels)}",
        ),
    ]
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
            element("td", _swatch(ids[pair.before]), pair.before, class_="name"),
            element("td", _swatch(ids[pair.after]), pair.after, class_="name"),
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
    return element("div", element("div", element("table", head, rows), class_="scroll"), more,
                   class_="card")  # fmt: skip


def _classes(runs: TwoRuns) -> Markup | None:
    table = runs.changes.counts
    if not runs.changes.pixels:
        return None
    before, after, both = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    head = [element("th", name, class_="num") for name in (*runs.ids, "change, %", "in both, %")]
    rows = []
    for index, name in enumerate(names(runs.classes)):
        old, new = int(before[index]), int(after[index])
        if not old and not new:
            continue
        kept = 100 * int(both[index]) / (old + new - int(both[index]))
        change = f"{100 * (new - old) / old:+.1f}".replace("-", "−") if old else "–"
        id_ = index if index <= len(runs.classes) else IGNORE
        cells = [element("td", text, class_="num") for text in (count(old), count(new), change)]
        rows.append(
            element(
                "tr",
                element("td", _swatch(id_), name, class_="name"),
                cells,
                element("td", percent(kept), class_="num"),
            )
        )
    table_ = element("table", element("tr", element("th", "Class"), head), rows)
    return element("div", element("div", table_, class_="scroll"), class_="card")


def _gallery(runs: TwoRuns) -> Markup:
    items = [
        GalleryItem(
            image.image_id,
            "",
            image.tags,
            image.image,
            cues={n: ls for n, ls in _both(image, runs.ids).items() if ls is not None},
        )
        for image in runs.images
    ]
    return join(legend(items, runs.classes), [_article(image, runs) for image in runs.images])


def _article(image: ChangedLabels, runs: TwoRuns) -> Markup:
    picture = shrink(image.image)
    pictures = {"image": picture}
    for title, labels in _both(image, runs.ids).items():
        if labels is not None:
            pictures[title] = overlay_labels(picture, labels)
    changed = _where(image)
    if changed is not None:
        pictures["changed"] = overlay_changed(picture, changed)
    return element(
        "article",
        element(
            "header",
            element("h3", image.image_id),
            tag_spans(image.tags, runs.classes),
            element("span", "changed ", element("b", percent(100 * image.share)), " %",
                    class_="score"),
        ),
        _problem(image, runs.ids),
        element("div", [figure(image.image_id, *item) for item in pictures.items()],
                class_="panels"),
        class_="row",
    )  # fmt: skip


def _both(image: ChangedLabels, ids: tuple[str, str]) -> dict[str, Labels | None]:
    return {ids[0]: image.before, ids[1]: image.after}


def _where(image: ChangedLabels) -> NDArray[np.bool_] | None:
    """HW bool: pixels of another label; None where sizes differ or a label is missing."""
    if image.before is None or image.after is None or image.before.shape != image.after.shape:
        return None
    changed: NDArray[np.bool_] = image.before != image.after
    return changed


def _problem(image: ChangedLabels, ids: tuple[str, str]) -> Markup | None:
    missing = [run for run, labels in _both(image, ids).items() if labels is None]
    if missing:
        return element("p", f"{missing[0]} has no label of it", class_="problem")
    return None if _where(image) is not None else element("p", "of another size", class_="problem")


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
    return element("div", table, class_="scroll differences")


def _swatch(class_id: int) -> Markup:
    ignored = element("i", class_="swatch ignored")
    return ignored if class_id == IGNORE else swatch(class_id)
