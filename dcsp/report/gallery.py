"""The gallery: every map and label of an image side by side, in one row per image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.trust import class_iou, image_iou
from dcsp.labels import IGNORE, MAX_CLASSES, voc_palette
from dcsp.report.data import GalleryItem
from dcsp.report.markup import Markup, element, join
from dcsp.report.panels import (
    Picture,
    data_url,
    heat,
    overlay_attention,
    overlay_labels,
    shrink,
)
from dcsp.text import percent
from dcsp.trust.score import told_reasons


def gallery(items: Sequence[GalleryItem], classes: Sequence[str]) -> Markup:
    """The legend of classes and the rows of images.

    Args:
        items: The images in order.
        classes: Class names in id order, background left out.
    """
    return join(legend(items, classes), [_row(item, classes) for item in items])


def legend(items: Sequence[GalleryItem], classes: Sequence[str]) -> Markup:
    """The colour of each class that some image of the gallery is tagged or labelled with."""
    shown: set[int] = set()
    for item in items:
        shown.update(item.tags)
        for labels in (*item.cues.values(), item.prediction, item.truth):
            if labels is not None:
                shown.update(np.unique(labels).tolist())
    keys = [
        element("span", swatch(class_id), class_name(class_id, classes))
        for class_id in sorted(shown)
        if 0 < class_id <= len(classes)
    ]
    if IGNORE in shown:
        keys.append(element("span", element("i", class_="swatch ignored"), "ignored"))
    return element("p", keys, class_="legend")


def swatch(class_id: int) -> Markup:
    """A small square of a class's colour."""
    red, green, blue = voc_palette()[class_id].tolist()
    return element("i", class_="swatch", style=f"background:rgb({red},{green},{blue})")


def class_name(class_id: int, classes: Sequence[str]) -> str:
    """Name of a class id; ids beyond the list are shown as numbers."""
    if class_id == 0:
        return "background"
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


def _row(item: GalleryItem, classes: Sequence[str]) -> Markup:
    score = agreement(item.prediction, item.truth)
    head = element(
        "header",
        element("h3", item.image_id),
        element("span", item.split, class_="split"),
        tag_spans(item.tags, classes),
        _scores(item.trust, score),
    )
    reasons = told_reasons((class_name(id_, classes), why) for id_, why in item.reasons)
    told = element("p", "; ".join(reasons), class_="reasons") if reasons else None
    problem = element("p", item.error, class_="problem") if item.error else None
    figures = [figure(item.image_id, *panel) for panel in _panels(item)]
    return element(
        "article", head, problem, told, element("div", figures, class_="panels"), class_="row"
    )


def _scores(trust: float | None, iou: float | None) -> Markup | None:
    """What is expected of the labels of an image, and what is measured."""
    found = {"trust": None if trust is None else 100 * trust, "IoU": iou}
    told = [
        element("span", f"{name} ", element("b", percent(value)))
        for name, value in found.items()
        if value is not None
    ]
    return element("span", told, class_="score") if told else None


def _panels(item: GalleryItem) -> Iterator[tuple[str, Picture]]:
    image = shrink(item.image)
    height, width = image.shape[:2]
    yield "image", image
    for title, values in item.saliency.items():
        yield title, heat(values, height, width)
    if item.attention is not None:
        yield "attention", overlay_attention(image, item.attention, item.tags)
    for title, labels in item.cues.items():
        yield title, overlay_labels(image, labels)
    if item.prediction is not None:
        yield "published", overlay_labels(image, item.prediction)
    if item.truth is not None:
        yield "ground truth", overlay_labels(image, item.truth)


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
    frame = element("div", image, class_="frame", style=f"aspect-ratio:{width}/{height}")
    return element("figure", frame, element("figcaption", _subscripted(title)))


def _subscripted(title: str) -> Markup:
    """``S_1`` as people write it: S with a lowered 1."""
    letter, underscore, number = title.partition("_")
    if underscore and number.isdigit():
        return join(letter, element("sub", number))
    return join(title)
