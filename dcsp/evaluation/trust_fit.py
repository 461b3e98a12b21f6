"""Fit the weights of the trust model on finished runs whose images have masks.

    python -m dcsp.evaluation.trust_fit STORE[@RUN]… [--out dcsp/trust/model.json]

The published run of each store where none is named, whatever model rated it. Told is how well
scores tell of true IoU by cross-validation within each run, and on each run by the weights that
other stores give, with the mIoU that these expect. Every run counts as much.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from dcsp.errors import StoreError
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.trust import (
    LOW_IOU,
    TrustCounter,
    TrustSums,
    auc,
    class_iou,
    image_iou,
    spearman,
    trust_metrics,
)
from dcsp.evaluation.truth import read_truth
from dcsp.labels import BACKGROUND, hide_labels
from dcsp.run.plan import Plan
from dcsp.run.record import plan_now
from dcsp.stages.parts import live_rows, read_part
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import CorpusPart
from dcsp.trust.score import TrustModel, shipped_model
from dcsp.trust.signals import SIGNALS, Signals, measure
from dcsp.trust.table import TrustStage

FOLDS = 5
_TOLD = ("height", "width", "tags")
_DECAY = 3e-4
"""Of the weights: signals that say the same share what they say."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image with a mask.

    Attributes:
        split: Its split.
        signals: What is known without the mask.
        iou: Of each class of ``signals``, in [0, 1].
        image_iou: The mean over all classes that label or mask show.
        areas: True share of the image's pixels of each class of ``signals``.
        image_id: Its id.
    """

    split: str
    signals: Signals
    iou: NDArray[np.float64]
    image_iou: float
    areas: NDArray[np.float64]
    image_id: str = ""


def examples(store: Store, plan: Plan) -> list[Example]:
    """The labelled images of a run that have masks.

    Raises:
        StoreError: A table cannot be read, or no labelled image has a mask.
    """
    stage = cast(TrustStage, plan.of(Role.TRUST)[0].stage)
    found = []
    for part, rows, masks in _labelled(store, plan):
        for row, mask in zip(rows, masks, strict=True):
            if (truth := _truth(row, mask, stage.classes)) is not None:
                found.append(_example(part.split, stage, row, truth))
    if not any(np.isfinite(e.iou).any() for e in found):
        raise StoreError(f"No labelled image of {store.url} has a mask to fit weights on.")
    return found


def _labelled(
    store: Store, plan: Plan
) -> Iterator[tuple[CorpusPart, list[Any], list[bytes | None]]]:
    """The parts whose images may have masks: the rows that trust looks at, and their masks."""
    inputs = plan.of(Role.TRUST)[0].stage.inputs
    for part in (part for part in plan.snapshot.parts if part.split in plan.labelled):
        truth = read_truth(store, part, plan.snapshot.masks)
        if truth is not None:
            rows = live_rows(read_part(store, inputs, part.name), part.dead).to_pylist()
            yield part, rows, live_rows(truth, part.dead)["label"].to_pylist()


def _truth(row: Any, mask: bytes | None, classes: int) -> NDArray[np.uint8] | None:
    """The mask of an image with a label; None where there is none that fits."""
    if row["prediction.status"] != OK or mask is None:
        return None
    truth = hide_labels(decode_labels(mask), classes, BACKGROUND)
    return truth if truth.shape == (row["height"], row["width"]) else None


def _example(split: str, stage: TrustStage, row: Any, truth: NDArray[np.uint8]) -> Example:
    seen = stage.seen(row)
    signals = measure(seen)
    iou = class_iou(ConfusionMatrix.of(truth, seen.label, stage.classes))
    of_classes = np.array([iou.get(id_, np.nan) for id_ in signals.classes])
    areas = np.bincount(truth.ravel(), minlength=256)[list(signals.classes)] / truth.size
    return Example(split, signals, of_classes, image_iou(iou), areas, row["image_id"])


@dataclass(frozen=True, eq=False)
class Judged:
    """A run whose images have masks.

    Attributes:
        name: Its id.
        store: Its store.
        plan: Its plan.
        images: Those with masks.
    """

    name: str
    store: Store
    plan: Plan
    images: Sequence[Example]


def fit(corpora: Sequence[Sequence[Example]]) -> TrustModel:
    """The weights, at least 0, under which the cross-entropy of true IoU is least.

    Args:
        corpora: Each counts as much as another, however many images it has.
    """
    rows, targets, shares = [], [], []
    for images in corpora:
        pairs = [
            (values, iou)
            for e in images
            for values, iou, pixels in zip(e.signals.values, e.iou, e.signals.pixels, strict=True)
            if pixels and not np.isnan(iou)
        ]
        rows += [values for values, _ in pairs]
        targets += [iou for _, iou in pairs]
        shares += [1 / len(pairs)] * len(pairs)
    values, target, share = np.array(rows), np.array(targets), np.array(shares) / len(corpora)
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(values)
        counts = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, values, 0).sum(axis=0) / counts
    centred = np.where(known, values - means, 0)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sums = centred @ theta[1:] + theta[0]
        entropy = share * (np.logaddexp(0, sums) - target * sums)
        error = share * (1 / (1 + np.exp(-sums)) - target)
        value = entropy.sum() + _DECAY / 2 * (theta[1:] ** 2).sum()
        return float(value), np.concatenate([[error.sum()], error @ centred + _DECAY * theta[1:]])

    bounds = [(None, None)] + [(0, None)] * len(SIGNALS)
    best = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B").x
    every = [e for images in corpora for e in images]
    empty = [e.image_iou for e in every if not e.signals.classes]
    return TrustModel(
        weights={n: round(float(w), 4) for n, w in zip(SIGNALS, best[1:], strict=True)},
        means={n: round(float(m), 4) for n, m in zip(SIGNALS, means, strict=True)},
        intercept=round(float(best[0]), 4),
        nothing=round(float(np.mean(empty)), 4) if empty else 0.5,
        missed=round(_missed(every), 4),
        fitted={},
    )


def _missed(images: Sequence[Example]) -> float:
    """True size of what is tagged and has no pixel, as a share of the size of what has some."""
    of_classes = [
        (pixels > 0, area)
        for e in images
        for pixels, area in zip(e.signals.pixels, e.areas, strict=True)
    ]
    missed, found = (
        [area for has, area in of_classes if has is is_found] for is_found in (False, True)
    )
    return float(np.mean(missed) / np.mean(found)) if missed and found else 1.0


def scored(model: TrustModel, images: Sequence[Example]) -> NDArray[np.float64]:
    """The score of each image by a model."""
    return np.array([model.score(model.classes(e.signals)) for e in images])


def by_split(
    scores: NDArray[np.float64], images: Sequence[Example]
) -> dict[str, dict[str, float | None]]:
    """How well scores tell of true IoU: of all images, and of those of each split."""
    splits = np.array([e.split for e in images])
    found = {"all": judged(scores, images)}
    for split in np.unique(splits).tolist():
        chosen = np.flatnonzero(splits == split).tolist()
        found[split] = judged(scores[chosen], [images[number] for number in chosen])
    return found


def judged(scores: NDArray[np.float64], images: Sequence[Example]) -> dict[str, float | None]:
    """Spearman, area under the curve for an IoU below a half, and what dropping a fifth brings."""
    iou = np.array([e.image_iou for e in images])
    kept = iou[np.argsort(scores, kind="stable")[len(iou) // 5 :]]
    return {
        "images": len(images),
        "spearman": spearman(scores, iou),
        "auc": auc(-scores, iou < LOW_IOU),
        "gain": 100 * float(kept.mean() - iou.mean()),
        "off": 100 * float(scores.mean() - iou.mean()),
    }


def crossed(images: Sequence[Example]) -> NDArray[np.float64]:
    """The score of each image by a model that has not seen it."""
    scores = np.zeros(len(images))
    folds = np.random.default_rng(0).permutation(len(images)) % FOLDS
    for fold in range(FOLDS):
        model = fit([[e for e, f in zip(images, folds, strict=True) if f != fold]])
        for number in np.flatnonzero(folds == fold).tolist():
            scores[number] = model.score(model.classes(images[number].signals))
    return scores


def expectations(run: Judged, model: TrustModel) -> dict[str, dict[str, float | None]]:
    """The mIoU, in per cent, that a model expects without any mask, and that masks measure.

    Returns:
        Of each split, and of ``all``: ``expected`` and ``true``.
    """
    store, plan = run.store, run.plan
    stage = replace(cast(TrustStage, plan.of(Role.TRUST)[0].stage), model=model)
    sums: dict[str, TrustSums] = {}
    confused: dict[str, ConfusionMatrix] = {}
    for part, rows, masks in _labelled(store, plan):
        told = [stage.row(row) | {name: row[name] for name in _TOLD} for row in rows]
        matrix = ConfusionMatrix.empty(stage.classes)
        for row, mask in zip(rows, masks, strict=True):
            if (truth := _truth(row, mask, stage.classes)) is not None:
                label = decode_labels(row["prediction.label"])
                matrix += ConfusionMatrix.of(truth, label, stage.classes)
        counted = TrustCounter(told, stage.classes).sums
        for split in (part.split, "all"):
            sums[split] = sums[split] + counted if split in sums else counted
            confused[split] = confused[split] + matrix if split in confused else matrix
    names, found = plan.config.corpus.classes, {}
    for split, counted in sums.items():
        if figures := trust_metrics({split: counted}, names, model.missed):
            expected, true = figures["expected_miou"], confused[split].mean_iou()
            found[split] = {"expected": expected, "true": true}
    return found


def read_runs(names: Sequence[str]) -> list[Judged]:
    """The runs that a command line names as ``STORE[@RUN]``."""
    found = []
    for name in names:
        url, _, run_id = name.partition("@")
        store = Store(url)
        run, plan = plan_now(store, run_id or None)
        found.append(Judged(run["run_id"], store, plan, examples(store, plan)))
    return found


def main() -> None:
    """Fit on the runs of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", metavar="STORE[@RUN]")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the model to this file")
    parsed = parser.parse_args()
    found = read_runs(parsed.runs)
    report: dict[str, Any] = {}
    for run in found:
        report[run.name] = {"within": by_split(crossed(run.images), run.images)}
        if others := [other.images for other in found if other.store.url != run.store.url]:
            model = fit(others)
            told = by_split(scored(model, run.images), run.images)
            report[run.name]["by the others"] = told
            report[run.name]["miou by the others"] = expectations(run, model)
    model = replace(fit([run.images for run in found]), fitted=report)
    print(json.dumps(asdict(model), indent=1))
    shipped = shipped_model()
    if shipped.weights.keys() == SIGNALS.keys():  # else it is of signals that there were
        for run in found:
            told = by_split(scored(shipped, run.images), run.images)
            print(f"{run.name} by the shipped model: {json.dumps(told)}")
    if parsed.out:
        parsed.out.write_text(json.dumps(asdict(model), indent=1) + "\n")


if __name__ == "__main__":
    main()
