"""What labels are good for, by what is measured where there are masks, else by what is expected.

A verdict is good only if nothing speaks against it: what does is told, since it is what would have
to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dcsp.evaluation.quality import Figures
from dcsp.report.data import ReportData
from dcsp.text import percent, quantity

Level = Literal["good", "caution", "bad"]

GOOD_MIOU = 60.0
"""From here on labels are fit for training on: where published weak supervision stands on VOC."""
USABLE_MIOU = 40.0
"""From here on labels help as drafts."""
GOOD_PRECISION = 60.0
"""A class whose labelled pixels are right less often spoils what is trained on it."""
ENOUGH_OF_CLASS = 5
"""Measured images below which nothing is known of a class."""
EXPECTED_ERROR = 10.0
"""Points of mIoU that an expectation without masks may be off (docs/trust.md)."""
CONSISTENT = 0.9
"""Share of tagged images each of whose tags has pixels, below which labels miss things."""
NAMED = 5


@dataclass(frozen=True)
class Standing:
    """What labels are good for.

    Attributes:
        level: ``good`` to train on, ``caution`` drafts or unknown, ``bad`` not to be used.
        headline: In one sentence.
        summary: By which figures, what to do, and what would change it.
    """

    level: Level
    headline: str
    summary: str


def standing(data: ReportData) -> Standing:
    """What the labels of a run are good for."""
    if data.ends_with_cues:
        return Standing(
            "caution",
            "Cues alone: nothing was trained on them.",
            "This run ended with a table of cues, which the figures and the gallery show; run "
            "dcsp relabel for a network and labels of every image.",
        )
    if data.final is not None and data.final["miou"] is not None:
        return _by_masks(data, data.final, data.final["miou"])
    if data.trust is not None and data.trust["expected_miou"] is not None:
        return _by_trust(data, data.trust["expected_miou"])
    return Standing(
        "caution",
        "These labels are unmeasured.",
        f"{_why_unmeasured(data)}, so nothing here says how good the labels are. Look through "
        "the gallery, and give masks to a hundred images of the validation split to get figures.",
    )


def _by_masks(data: ReportData, final: Figures, miou: float) -> Standing:
    measured = (
        f"On {quantity(final['images'], 'image')} of the {data.measured_split} split, by "
        f"{data.measured}, {percent(final['accuracy'])} % of the pixels are right, and labelled "
        f"and true regions overlap by {percent(miou)} % in the mean over the classes (mIoU)"
    )
    interval = final.get("interval")
    if interval:
        measured += f"; for other such images, between {percent(interval[0])} and "
        measured += f"{percent(interval[1])} %"
    if miou < USABLE_MIOU:
        advice = "Do not use them as they are: the findings here say where quality is lost."
        return Standing("bad", "Not good enough to use.", f"{measured}. {advice}")
    against = list(_against(data, final, interval[0] if interval else miou))
    if not against:
        advice = "Use them for training; look first at the weak classes, where any are named here."
        return Standing("good", "Good enough to train on.", f"{measured}. {advice}")
    advice = "Use them as drafts that people correct, or to pretrain on; not as a final truth."
    return Standing("caution", "Usable as drafts.", f"{measured}. {advice} {_change(against)}")


def _against(data: ReportData, final: Figures, low: float) -> Iterator[str]:
    """What speaks against labels that are measured."""
    if low < GOOD_MIOU:
        yield f"an mIoU that is surely above {GOOD_MIOU:g} %"
    if data.masks.left_out:
        yield "masks that fit their images"
    classes = {name: c for name, c in final["per_class"].items() if name in data.classes}
    seldom = [n for n, c in classes.items() if c.get("images", ENOUGH_OF_CLASS) < ENOUGH_OF_CLASS]
    if seldom:
        yield f"masks of {ENOUGH_OF_CLASS} images at least that show {named(seldom)}"
    wrong = [
        name
        for name, c in classes.items()
        if c["precision"] is not None and c["precision"] < GOOD_PRECISION
    ]
    if wrong:
        yield f"more right pixels among those labelled {named(wrong)}"
    expected = data.trust["expected_miou"] if data.trust else None
    if expected is not None and expected < GOOD_MIOU - EXPECTED_ERROR:
        yield f"more trust in the labels of all images, of which {percent(expected)} % is expected"
    if _lacks_tags(data):
        yield "pixels for what is tagged"


def _lacks_tags(data: ReportData) -> bool:
    """Whether many images show no pixel of something that they are tagged with."""
    consistency = data.trust["tag_consistency"] if data.trust else None
    return consistency is not None and consistency < CONSISTENT


def _by_trust(data: ReportData, expected: float) -> Standing:
    assert data.trust is not None
    told = (
        f"{_why_unmeasured(data)}. By what the tables say of "
        f"{quantity(data.trust['images'], 'image')}, labelled and true regions are expected to "
        f"overlap by {percent(expected)} % in the mean over the classes (mIoU), give or take "
        f"{EXPECTED_ERROR:g} points"
    )
    if expected < USABLE_MIOU:
        advice = "Do not use them as they are: the findings here say where quality is lost."
        return Standing("bad", "Not good enough to use, as it seems.", f"{told}. {advice}")
    against = []
    if expected - EXPECTED_ERROR < GOOD_MIOU:
        against.append(f"an expectation above {GOOD_MIOU + EXPECTED_ERROR:g} %")
    if _lacks_tags(data):
        against.append("pixels for what is tagged")
    unseen = [n for n, told in data.trust["per_class"].items() if told["expected_iou"] is None]
    if unseen:
        against.append(f"images that show {named(unseen)}")
    if against:
        against.append("a hundred images with masks that prove it")
        advice = "Use them as drafts that people correct, or to pretrain on."
        return Standing("caution", "Drafts, as it seems.", f"{told}. {advice} {_change(against)}")
    advice = (
        "Use them for training, and give masks to a hundred images of the validation split to know."
    )
    return Standing("good", "Good enough to train on, as it seems.", f"{told}. {advice}")


def _change(against: list[str]) -> str:
    """What it would take for a better verdict."""
    *most, last = against
    return f"What would change this: {', '.join(most) + ', and ' if most else ''}{last}."


def named(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _why_unmeasured(data: ReportData) -> str:
    if data.masks.left_out:
        return (
            f"{quantity(data.masks.left_out, 'mask')} of {data.masks.usable} do not go with the "
            "tags of their images, and no image that was labelled has another"
        )
    if data.bad_masks:
        return (
            f"{quantity(data.bad_masks, 'mask')} could not be used (the rejected table says why), "
            "and no image that was labelled has another"
        )
    if data.masks.idle:
        return (
            f"{quantity(data.masks.idle, 'mask')} called like no image (ingest says how to name "
            "them), and no image that was labelled has one"
        )
    return "No image of this corpus has a mask to compare with"
