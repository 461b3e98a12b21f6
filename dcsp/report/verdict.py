"""How far to trust a run, in words: what its figures support, and what to do about the rest.

The rules are few and fixed, each a function of the report's data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcsp.evaluation.quality import Figures
from dcsp.report.data import Curve, ReportData
from dcsp.report.standing import CONSISTENT, NAMED, Level, named, standing
from dcsp.tables.schemas import ERROR
from dcsp.tables.snapshot import TRAIN
from dcsp.text import count, percent, points, quantity, title
from dcsp.trust.score import REASONS

FEW_IMAGES = 100
"""With fewer measured images, figures of single classes move by many points between samples."""
WEAK_SHARE = 0.6
"""A class under this share of the mean IoU is named as weak."""
STILL_FALLING = 0.1
"""A loss whose last quarter brought more than this share of its whole fall had not settled."""
TELLING = 0.5
"""A rank correlation of trust and truth below this says that trust is not to be relied on."""


@dataclass(frozen=True)
class Statement:
    """One finding: how serious it is, and a sentence or two."""

    level: Level
    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer to "can I use these labels?" and the findings behind it."""

    level: Level
    headline: str
    summary: str
    statements: tuple[Statement, ...]


def judge(data: ReportData) -> Verdict:
    """Draw the verdict and its findings from a run's figures."""
    found = standing(data)
    rules = (
        _sample,
        _masks,
        _trust,
        _classes,
        _cues,
        _adapt,
        _selftags,
        _crf,
        _training,
        _failures,
        _rejections,
    )
    said = tuple(statement for rule in rules for statement in rule(data))
    order: dict[Level, int] = {"bad": 0, "caution": 1, "good": 2}
    statements = tuple(sorted(said, key=lambda s: order[s.level]))
    return Verdict(found.level, found.headline, found.summary, statements)


def _sample(data: ReportData) -> Iterator[Statement]:
    final = data.final
    if final is None:
        return
    images = final["images"]
    if data.measured_split == TRAIN:
        yield Statement(
            "caution",
            "The figures are of images that the network learned from: labels of new images may be "
            "worse; give masks to a validation split to know.",
        )
    if images < FEW_IMAGES:
        yield Statement(
            "caution",
            f"Only {quantity(images, 'image')} with masks stand behind the figures: those of "
            "single classes can be off by ten points or more.",
        )
    unknown = [name for name, figures in final["per_class"].items() if figures["iou"] is None]
    if unknown:
        yield Statement(
            "caution",
            f"Not measured, because no mask and no label shows them: {named(unknown)}.",
        )
    if final["mismatched"]:
        yield Statement(
            "caution",
            f"{quantity(final['mismatched'], 'mask')} could not be compared, being of another size "
            "than the image.",
        )


def _masks(data: ReportData) -> Iterator[Statement]:
    if data.masks.left_out:
        yield Statement("bad", f"{data.masks.told}.")


def _trust(data: ReportData) -> Iterator[Statement]:
    """What the trust table says of all labels together."""
    trust = data.trust
    if trust is None:
        return
    consistency, rated = trust["tag_consistency"], trust["calibration"]
    if consistency is not None:
        text = f"In {percent(100 * consistency)} % of the tagged images every tag has pixels"
        if consistency < CONSISTENT:
            yield Statement("caution", f"{text}: elsewhere something that was tagged is missing.")
        else:
            yield Statement("good", f"{text}.")
    told = [
        f"{REASONS[reason]} ({count(number)})"
        for reason, number in list(trust["reasons"].items())[:NAMED]
    ]
    if told:
        yield Statement(
            "caution", f"What lowers the trust in labels, class by class: {'; '.join(told)}."
        )
    if rated and rated["spearman"] is not None and rated["spearman"] < TELLING:
        yield Statement(
            "caution",
            f"Trust tells little here: its rank correlation with the true IoU of "
            f"{quantity(rated['images'], 'image')} is {rated['spearman']:.2f}.",
        )


def _classes(data: ReportData) -> Iterator[Statement]:
    final = data.final
    if final is None or final["miou"] is None:
        return
    limit = WEAK_SHARE * final["miou"]
    weak = sorted(
        (figures["iou"], name)
        for name, figures in final["per_class"].items()
        if figures["iou"] is not None and figures["iou"] < limit
    )
    if not weak:
        yield Statement("good", "No class falls far behind the others.")
        return
    described = [_describe_weak(final, name) for _, name in weak[:NAMED]]
    more = f" and {len(weak) - NAMED} more" if len(weak) > NAMED else ""
    noun = "class is" if len(weak) == 1 else "classes are"
    yield Statement(
        "caution", f"{len(weak)} {noun} far below the mean: {'; '.join(described)}{more}."
    )


def _describe_weak(final: Figures, name: str) -> str:
    figures = final["per_class"][name]
    precision, recall = figures["precision"], figures["recall"]
    if precision is None or (recall is not None and recall < precision):
        reason = f"only {percent(recall)} % of its pixels are found"
    else:
        reason = f"only {percent(precision)} % of the pixels labelled so are right"
    return f"{name} ({percent(figures['iou'])}: {reason})"


def _cues(data: ReportData) -> Iterator[Statement]:
    for first in (*data.start, *data.cues[:1]):
        if (
            first.figures
            and first.figures["miou"] is not None
            and first.miou_first_pass is not None
        ):
            yield _hierarchy(first.figures["miou"] - first.miou_first_pass)
    yield from _start(data)


def _start(data: ReportData) -> Iterator[Statement]:
    """What a method made of the cues that it started from."""
    scores = [c.figures["miou"] if c.figures else None for c in (*data.start, *data.cues[:1])]
    if len(scores) < 2 or scores[0] is None or scores[1] is None:
        return
    method, gain = data.cues[0].method, scores[1] - scores[0]
    if gain > 0:
        yield Statement("good", f"{method} lifted the cues by {gain:.1f} points of mIoU.")
    else:
        yield Statement(
            "caution",
            f"{method} changed the cues that it started from by {points(gain)} mIoU: here they "
            "may serve as they are.",
        )


def _hierarchy(gain: float) -> Statement:
    """What the later passes of the detector brought."""
    if gain > 0:
        return Statement(
            "good",
            f"Hierarchical saliency does its work: it lifts the first cues by {gain:.1f} points "
            "of mIoU over one pass of the detector.",
        )
    return Statement(
        "caution",
        f"Hierarchical saliency changed the first cues by {points(gain)} mIoU over one pass of "
        "the detector: on this corpus fewer passes (cues.dcsp.saliency_pass) may serve better.",
    )


def _adapt(data: ReportData) -> Iterator[Statement]:
    scores = [phase.figures["miou"] if phase.figures else None for phase in data.cues]
    if len(scores) < 2 or scores[0] is None or scores[-1] is None:
        return
    gain = scores[-1] - scores[0]
    if gain > 0:
        yield Statement(
            "good", f"{data.method.later} lifted the cues by {gain:.1f} points of mIoU."
        )
    else:
        yield Statement(
            "caution",
            f"{data.method.later} changed the cues by {points(gain)} mIoU: the jointly trained "
            "network knows no more than the cues it learned from; try longer training, or "
            f"{data.method.advice}.",
        )


def _selftags(data: ReportData) -> Iterator[Statement]:
    found = data.selftags
    if found is None:
        return
    lacking = [name for name, c in found["per_class"].items() if c["threshold"] is None]
    untagged = quantity(found["untagged"], "untagged image")
    measured = data.selfcues and data.selfcues["miou"]
    cues = f"; their cues overlap by {percent(measured)} % with the truth" if measured else ""
    yield Statement(
        "caution" if found["untagged"] and not found["self_tagged"] else "good",
        f"{count(found['self_tagged'])} of {untagged} got tags of the network's own{cues}.",
    )
    if not found["held_out"]:
        yield Statement(
            "caution",
            "Thresholds of self-tags were calibrated on images that the network has learned from: "
            "fewer self-tags are right than their precision says; give tags to a validation split.",
        )
    if lacking:
        yield Statement(
            "caution",
            f"Never a self-tag, for want of a threshold that is precise enough on enough tagged "
            f"images: {named(lacking)}.",
        )


def _crf(data: ReportData) -> Iterator[Statement]:
    if data.prediction is None or data.prediction_crf is None:
        return
    before, after = data.prediction["miou"], data.prediction_crf["miou"]
    if before is not None and after is not None and after < before:
        yield Statement(
            "caution",
            f"The dense CRF changed the labels by {points(after - before)} mIoU: here predict.crf="
            "false is both better and faster.",
        )


def _training(data: ReportData) -> Iterator[Statement]:
    for curve in data.curves:
        for name in curve.losses:
            values = [value for _, value in curve.losses[name]]
            if not all(math.isfinite(value) for value in values):
                yield Statement("bad", f"The loss {name} of {title(curve.stage)} was not finite.")
    falling = [title(curve.stage) for curve in data.curves if _still_falls(curve)]
    if falling:
        yield Statement(
            "caution",
            f"The loss was still falling at the end of {named(falling)}: more steps may give "
            "better labels.",
        )


def _still_falls(curve: Curve) -> bool:
    for pairs in curve.losses.values():
        values = np.array([value for _, value in pairs])
        quarter = len(values) // 4
        if quarter < 4 or not np.isfinite(values).all():
            continue
        first, before, last = values[:quarter], values[-2 * quarter : -quarter], values[-quarter:]
        fall, whole = before.mean() - last.mean(), first.mean() - last.mean()
        noise = 2 * math.sqrt((before.var() + last.var()) / quarter)
        if fall > noise and fall > STILL_FALLING * whole:
            return True
    return False


def _failures(data: ReportData) -> Iterator[Statement]:
    failed = {table: rows.get(ERROR, 0) for table, rows in data.rows.items()}
    broken = [f"{quantity(n, 'row')} of {title(table)}" for table, n in failed.items() if n]
    if broken:
        yield Statement(
            "caution",
            f"Failed: {', '.join(broken)}. Each failed row says why in its error column.",
        )
    elif data.rows:
        yield Statement("good", "No image failed on the way from ingest to prediction.")


def _rejections(data: ReportData) -> Iterator[Statement]:
    rejected = sum(data.rejected.values())
    if not rejected:
        return
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(data.rejected.items()))
    yield Statement(
        "caution",
        f"Ingest recorded {quantity(rejected, 'rejection')} ({reasons}): see the rejected table.",
    )
