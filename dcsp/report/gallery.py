"""The gallery: cards of images, what filters and sorts them, and the view of one at full size.

Without its script (``report.js``) the page has every card and every layer in the same order; the
script takes what it needs from the attributes of the cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.trust import class_iou, image_iou
from dcsp.labels import IGNORE, MAX_CLASSES
from dcsp.report.data import Card
from dcsp.report.layers import Layer
from dcsp.report.markup import Markup, element, join
from dcsp.report.panels import Picture, data_url
from dcsp.text import percent, visible, without_credentials
from dcsp.trust.score import REASONS, told_reasons

FAILED = "failed"
"""Stands among the reasons for an error."""
_SORTS = {
    "trust": "least trusted first",
    "changed": "most changed first",
    "iou": "lowest IoU first",
    "id": "by id",
}
_KEYS = {
    "← →": "image before, next image",
    "1 … 9": "this layer over the photograph; again: none",
    "0": "the photograph alone",
    "− +": "opacity of the layer",
    "o": "outlines alone",
    "z": "closer, and back",
    "/": "search by id",
    "Esc": "close",
    "?": "these keys",
}


def gallery(cards: Sequence[Card], classes: Sequence[str], explain: str = "") -> Markup:
    """The legend of classes, what filters, and the images.

    Args:
        cards: The images in order.
        classes: Class names in id order, background left out.
        explain: The command that tells of an image, but for its id; empty: there is none.
    """
    shown = {id_ for card in cards for id_ in (*card.tags, *card.shown)}
    shown.update(id_ for card in cards for layer in card.layers for id_ in layer.classes)
    return join(
        _filters(cards, classes),
        legend(shown, classes),
        element("p", class_="found", id="found", role="status"),
        element(
            "div",
            [_card(card, classes) for card in cards],
            class_="cards",
            id="cards",
            tabindex=0,
            role="region",
            aria_label="images",
        ),
        element("button", "Show more", type="button", id="more", hidden="hidden"),
        _viewer(explain),
        _help(),
    )


def legend(shown: Iterable[int], classes: Sequence[str]) -> Markup:
    """The colour of each of some class ids."""
    keys = [
        element("span", swatch(class_id), class_name(class_id, classes))
        for class_id in sorted(set(shown))
        if 0 < class_id <= len(classes) or class_id == IGNORE
    ]
    return element("p", keys, class_="legend")


def swatch(class_id: int) -> Markup:
    """A small square of a class's colour."""
    return element("i", class_=f"swatch c{class_id}")


def class_name(class_id: int, classes: Sequence[str]) -> str:
    """Name of a class id; ids beyond the list are shown as numbers."""
    if class_id in (0, IGNORE):
        return "ignored" if class_id else "background"
    return classes[class_id - 1] if class_id <= len(classes) else f"class {class_id}"


def tag_spans(tags: Sequence[int], classes: Sequence[str]) -> Markup:
    """The tags of an image in their colours."""
    if not tags:
        return element("span", "no tags", class_="muted")
    return join(element("span", swatch(t), class_name(t, classes), class_="tag") for t in tags)


def agreement(
    prediction: NDArray[np.uint8] | None, truth: NDArray[np.uint8] | None
) -> float | None:
    """Mean IoU of one image's labels, 0-100, over the classes that either shows, no background."""
    if prediction is None or truth is None or prediction.shape != truth.shape:
        return None
    return 100 * image_iou(class_iou(ConfusionMatrix.of(truth, prediction, MAX_CLASSES)))


def _card(card: Card, classes: Sequence[str]) -> Markup:
    reasons = told_reasons((class_name(of, classes), why) for of, why in card.reasons)
    codes, id_ = dict.fromkeys(why for _, why in card.reasons), card.image_id
    figures = {
        "trust": None if card.trust is None else 100 * card.trust,
        "iou": card.iou,
        "changed": None if card.changed is None else 100 * card.changed,
    }
    names = {"trust": "trust ", "iou": "IoU ", "changed": "changed "}
    told = [
        element("span", names[name], element("b", percent(value)))
        for name, value in figures.items()
        if value is not None and (name != "changed" or value > 0)
    ]
    if card.is_corrected:
        told.append(element("span", "corrected by a person"))
    return element(
        "article",
        _stack(card.layers),
        element("h3", id_),
        element("p", element("span", card.split) if card.split else None, told, class_="facts"),
        element("p", tag_spans(card.tags, classes), class_="tags"),
        element("p", card.error, class_="problem") if card.error else None,
        element("p", "; ".join(reasons), class_="reasons") if reasons else None,
        _panels(card.layers),
        class_="image",
        data_split=card.split,
        data_classes=" ".join(map(str, sorted({*card.tags, *card.shown}))),
        data_reasons=" ".join((*codes, *([FAILED] if card.error else []))),
        data_corrected="yes" if card.is_corrected else None,
        data_altered=None if visible(without_credentials(id_)) == id_ else "yes",
        **{f"data_{n}": None if v is None else f"{v:.1f}" for n, v in figures.items()},
    )


def _stack(layers: Sequence[Layer]) -> Markup:
    """The photograph with the first labels over it."""
    over = next((layer for layer in layers if layer.kind == "labels"), None)
    return element(
        "div",
        [_image(layer, layer.kind) for layer in layers[:1]],
        _image(over, "over") if over else None,
        element("span", "no picture", class_="muted") if not layers else None,
        class_="stack",
    )


def _panels(layers: Sequence[Layer]) -> Markup | None:
    """All other layers, side by side; where there is a script, it shows them one by one."""
    over = next((layer for layer in layers if layer.kind == "labels"), None)
    figures = [
        element(
            "figure", _image(layer, layer.kind), element("figcaption", subscripted(layer.title))
        )
        for layer in layers[1:]
        if layer is not over
    ]
    return element("div", figures, class_="panels") if figures else None


def _image(layer: Layer, kind: str) -> Markup:
    return element(
        "img",
        src=layer.url,
        alt=layer.title,
        class_=kind,
        width=layer.width,
        height=layer.height,
        loading="lazy",
        decoding="async",
    )


def _filters(cards: Sequence[Card], classes: Sequence[str]) -> Markup:
    ids = sorted({id_ for card in cards for id_ in (*card.tags, *card.shown)})
    codes = {why for card in cards for _, why in card.reasons}
    reasons = {name: text for name, text in REASONS.items() if name in codes}
    if any(card.error for card in cards):
        reasons[FAILED] = "something is missing"
    known = [s for s in _SORTS if s == "id" or any(getattr(c, s) is not None for c in cards)]
    splits = sorted({card.split for card in cards})
    has_changed = any(card.changed for card in cards)
    has_corrected = any(card.is_corrected for card in cards)
    return element(
        "form",
        _field("Search id", element("input", type="search", name="q", autocomplete="off")),
        _select("Class", "class", {str(id_): class_name(id_, classes) for id_ in ids}),
        _select("Lowered by", "reason", reasons) if reasons else None,
        _select("Split", "split", {split: split for split in splits}) if len(splits) > 1 else None,
        [
            _field(
                f"Trust {bound}",
                element("input", type="number", name=bound, min=0, max=100, step="any"),
            )
            for bound in ("from", "to")
        ]
        if "trust" in known
        else None,
        [
            element(
                "label",
                element("input", type="checkbox", name=name, value="yes"),
                f"only {name}",
                class_="check",
            )
            for name, is_there in (("changed", has_changed), ("corrected", has_corrected))
            if is_there
        ],
        _select("Order", "sort", {name: _SORTS[name] for name in known}, everything=False),
        element("button", "Reset", type="reset"),
        element("button", "Keys", type="button", id="help"),
        id="filters",
        class_="filters",
        role="search",
        hidden="hidden",
    )


def _select(title: str, name: str, options: dict[str, str], everything: bool = True) -> Markup:
    every = element("option", "all", value="") if everything else None
    told = [element("option", text, value=value) for value, text in options.items()]
    return _field(title, element("select", every, told, name=name))


def _field(title: str, control: Markup) -> Markup:
    return element("label", element("span", title), control)


def _viewer(explain: str) -> Markup:
    """The dialog of one image at full size, which the script fills."""
    command = element("p", command_line(explain), id="explain") if explain else None
    return element(
        "dialog",
        element(
            "header",
            element("h2", "", id="title"),
            element("button", "← Previous", type="button", id="previous"),
            element("button", "Next →", type="button", id="next"),
            element("button", "Close", type="button", class_="close"),
        ),
        element(
            "div",
            element("canvas", id="canvas", role="img", aria_label=""),
            id="stage",
            tabindex=0,
            role="region",
            aria_label="image",
        ),
        element("p", "\u00a0", id="under", class_="muted"),
        element("div", id="layers", role="group", aria_label="layer over the photograph"),
        element(
            "div",
            _field("Opacity", element("input", type="range", id="opacity", value=65)),
            element(
                "label", element("input", type="checkbox", id="outlines"), "outlines alone",
                class_="check",
            ),
            element("label", element("input", type="checkbox", id="zoom"), "closer",
                    class_="check"),
            class_="filters",
        ),
        element("div", id="told"),
        command,
        id="viewer",
        aria_labelledby="title",
    )  # fmt: skip


def _help() -> Markup:
    rows = [
        element("tr", element("th", element("kbd", key), scope="row"), element("td", text))
        for key, text in _KEYS.items()
    ]
    return element(
        "dialog",
        element("h2", "Keys", id="keys-title"),
        element("table", rows),
        element("button", "Close", type="button", class_="close"),
        id="keys",
        aria_labelledby="keys-title",
    )


def command_line(command: str) -> Markup:
    """A command and a button that copies it, which is there where there is a script."""
    return element(
        "span",
        element("code", command),
        element("button", "Copy", type="button", class_="copy", hidden="hidden"),
        class_="command",
    )


def figure(image_id: str, title: str, picture: Picture) -> Markup:
    """One picture (HWC uint8 RGB) of an image with its title below."""
    height, width = picture.shape[:2]
    image = element(
        "img",
        src=data_url(picture),
        alt=f"{title} of {image_id}",
        width=width,
        height=height,
        tabindex=0,
        loading="lazy",
        decoding="async",
    )
    frame = element("div", image, class_="frame")
    return element("figure", frame, element("figcaption", subscripted(title)))


def subscripted(title: str) -> Markup:
    """``S_1`` as people write it: S with a lowered 1."""
    letter, underscore, number = title.partition("_")
    if underscore and number.isdigit():
        return join(letter, element("sub", number))
    return join(title)
