"""What tells of a label, without a mask, whether it is right: numbers of each class of an image.

Each is in [0, 1], and the higher the better: the score that is made of them never falls when one of
them rises. What is not known of an image is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.labels import BACKGROUND, IGNORE, count_pairs

SIGNALS: Mapping[str, str] = {
    "confidence": "the network is unsure of it",
    "network": "the network without tags labels other pixels",
    "cue": "its last cue was of other pixels",
    "salient": "it does not stand out",
    "contrast": "it stands out no more than what is background",
    "decided": "whether it stands out is unclear",
    "covered": "what stands out is labelled as background",
    "alone": "many classes share the image",
}
"""Signal → what a low one says of a label."""

_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Seen:
    """What the tables of a run hold of one image.

    Attributes:
        tags: Class ids, sorted; empty where nobody gave any.
        label: HW uint8 of class ids, 255 where nothing is said: what is published.
        network: HW uint8: the network's own label, without tags, saliency and CRF.
        confidences: Class id → mean probability in the pixels that are labelled so.
        cue: HW uint8: its last cue; None where it has none.
        saliency: HW float32 in [0, 1], S_1; None where there is none.
    """

    tags: Sequence[int]
    label: NDArray[np.uint8]
    network: NDArray[np.uint8]
    confidences: Mapping[int, float]
    cue: NDArray[np.uint8] | None = None
    saliency: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Signals:
    """The signals of the classes that an image shows or should show, background left out.

    Attributes:
        classes: Class ids, sorted: those of the label and of the tags.
        pixels: Of each class in the label; 0 of a tag without pixels.
        values: (classes, signals) float64 in [0, 1], or NaN; columns as in ``SIGNALS``.
    """

    classes: tuple[int, ...]
    pixels: tuple[int, ...]
    values: NDArray[np.float64]


def measure(seen: Seen) -> Signals:
    """The signals of one image."""
    counts = np.bincount(seen.label.ravel(), minlength=256)
    shown = [id_ for id_ in np.flatnonzero(counts).tolist() if id_ not in (BACKGROUND, IGNORE)]
    classes = tuple(sorted({*shown, *seen.tags}))
    pixels = counts[list(classes)]
    values = np.full((len(classes), len(SIGNALS)), np.nan)
    columns = {
        **_of_networks(seen, classes),
        **_of_saliency(seen, counts, classes),
        "alone": 1 / max(1, len(classes)),
    }
    for column, name in enumerate(SIGNALS):
        values[:, column] = columns.get(name, np.nan)
    values[pixels == 0] = np.nan  # of no pixels nothing can be said but that there are none
    return Signals(classes, tuple(pixels.tolist()), values)


def overlaps(
    label: NDArray[np.uint8], other: NDArray[np.uint8], classes: Sequence[int]
) -> NDArray[np.float64]:
    """IoU of the pixels of each class in two label maps: NaN where neither has any.

    Args:
        label: HW uint8.
        other: HW uint8 of the same shape; where it is 255, neither map counts.
        classes: Class ids.
    """
    table, ids = count_pairs(label, other), list(classes)
    known = table[:, :IGNORE]
    both = table[ids, ids]
    either = known[ids].sum(axis=1) + known[:, ids].sum(axis=0) - both
    iou = np.full(len(ids), np.nan)
    np.divide(both, either, out=iou, where=either > 0)
    return iou


def _of_networks(seen: Seen, classes: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """What networks and cues say of the same image."""
    sure = [seen.confidences.get(id_, np.nan) for id_ in classes]
    found = {
        "confidence": np.array(sure, np.float64),
        "network": overlaps(seen.label, seen.network, classes),
    }
    if seen.cue is not None:
        found["cue"] = overlaps(seen.label, seen.cue, classes)
    return found


def _of_saliency(
    seen: Seen, counts: NDArray[np.int64], classes: Sequence[int]
) -> dict[str, NDArray[np.float64] | float]:
    """Whether what is labelled stands out, and what stands out is labelled."""
    if seen.saliency is None:
        return {}
    flat = seen.label.ravel()
    sums = np.bincount(flat, weights=seen.saliency.ravel(), minlength=256)
    ids = list(classes)
    inside = sums[ids] / np.maximum(counts[ids], 1)
    is_clear = np.abs(seen.saliency - 0.5) > 0.25
    clear = np.bincount(flat[is_clear.ravel()], minlength=256)
    outside = sums[BACKGROUND] / max(1, counts[BACKGROUND])
    labelled = counts.sum() - counts[BACKGROUND] - counts[IGNORE]
    shared = sums.sum() - sums[BACKGROUND] - sums[IGNORE]
    either = labelled + sums[BACKGROUND] + _TINY
    return {
        "salient": inside,
        "contrast": np.clip(inside - outside, 0, 1),
        "decided": clear[ids] / np.maximum(counts[ids], 1),
        "covered": float(shared / either),
    }
