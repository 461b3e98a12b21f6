"""Trust beside cleanlab's label quality and FiftyOne's mistakenness, on the same labels and masks.

    python -m tests.quality.trust STORE[@RUN]… [--threads N]

For every labelled image that has a mask, the probabilities of the run's network are computed again
as the prediction stage does, at the size of the label: ``restricted`` to background and tags, as
what is published, and over ``all`` classes. Scores of the published label by them:

- cleanlab: ``cleanlab.segmentation.rank.get_label_quality_scores(…, method="softmin")``; it has to
  be installed (``pip install cleanlab``, in an environment of its own);
- mistakenness: ``_compute_mistakenness_class`` of ``fiftyone/brain/internal/core/mistakenness.py``
  (fiftyone-brain 0.27.0), (m · exp(−entropy) + 1) / 2 with m = 1 where prediction and label differ,
  else −1. FiftyOne has it for one label an image and for objects, not for masks: here it is the
  mean over the pixels. Its formula is written out below, since it comes with a database.

Beside them our score by weights that have not seen the image (five folds), by those that other
stores give, and by the shipped ones. A store that is named without a run stands for its published
one; runs of one store do not judge each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from dcsp.cues.published import PublishedRule
from dcsp.evaluation.trust_fit import Example, crossed, fit, judged, read_runs, scored
from dcsp.images.resize import resize_map
from dcsp.inference.scores import probabilities
from dcsp.inference.table import PredictionStage
from dcsp.labels import IGNORE
from dcsp.run.plan import Plan
from dcsp.stages.parts import live_rows, read_part
from dcsp.stages.stage import Device
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, unpack_array
from dcsp.tables.layout import part_file
from dcsp.trust.score import TrustModel, shipped_model

OURS, CLEANLAB, MISTAKENNESS = "dcsp", "cleanlab softmin", "FiftyOne mistakenness"
Scores = dict[str, NDArray[np.float64]]


def shares(
    stage: PredictionStage, row: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, NDArray[np.float32]]:
    """The network's probabilities at the size of a label, each (C+1)HW float32 in [0, 1].

    Args:
        stage: That made the label.
        row: As its model leaves it.
        size: Height and width of the label.
    """
    scores = unpack_array(row["raw"]).astype(np.float32)
    fuse = stage.settings.fuse
    every = probabilities(resize_map(scores, *size, corners=True), fuse)
    if not (stage.rule and row["tags"]):
        return {"restricted": every, "all": every}
    rule = replace(cast(PublishedRule, stage.rule), settings=None, crf=None)
    found = rule.label(row, scores, size, lambda: np.zeros((*size, 3), np.uint8))
    restricted = np.zeros_like(every)
    restricted[list(found.ids)] = found.probabilities
    return {"restricted": restricted, "all": every}


def mistakenness(label: NDArray[np.integer], shares: NDArray[np.float32]) -> float:
    """FiftyOne's mistakenness in the mean over pixels, in [0, 1].

    Args:
        label: (n,) class ids.
        shares: (C+1)n, probabilities of each pixel.
    """
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    confidence = np.exp((shares * logs).sum(axis=0))
    m = np.where(shares.argmax(axis=0) == label, -1.0, 1.0)
    return float(((m * confidence + 1) / 2).mean())


def softmin(label: NDArray[np.integer], shares: NDArray[np.float32]) -> float:
    """cleanlab's label quality of one image, in [0, 1]; arguments as of :func:`mistakenness`."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    labels, probs = label.astype(np.int64)[None, None], shares[None, :, None]
    scores, _ = get_label_quality_scores(labels, probs, method="softmin", verbose=False)
    return float(scores[0])


def rate(label: NDArray[np.uint8], found: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    """Scores of one label by probabilities, the higher the better.

    Args:
        label: HW uint8 of class ids; where it is 255 nothing was said, and nothing is judged.
        found: As :func:`shares` gives it.
    """
    known = label != IGNORE
    scores: dict[str, float] = {}
    for name, maps in found.items():
        pixels = label[known], maps[:, known]
        scores[f"{CLEANLAB}, {name}"] = softmin(*pixels) if known.any() else 0.0
        scores[f"{MISTAKENNESS}, {name}"] = 1 - mistakenness(*pixels) if known.any() else 0.0
    return scores


def predicted(store: Store, plan: Plan) -> Iterator[tuple[PredictionStage, dict[str, Any]]]:
    """Each labelled image as the network's model leaves it, with its published ``label``."""
    stage = cast(PredictionStage, plan.of(Role.PREDICTIONS)[0].stage)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = stage.load(store, Device(device, torch.get_num_threads()))
    for part in plan.snapshot.of(plan.labelled):
        made = store.read_table(part_file(stage.key.directory, part.name), ["label"])
        rows = model(read_part(store, stage.inputs, part.name))
        rows = rows.append_column("label", made["label"])
        for row in live_rows(rows, part.dead).to_pylist():
            if row["raw"] is not None and row["label"] is not None:
                yield stage, row


def anchors(store: Store, plan: Plan, images: Sequence[Example]) -> Scores:
    """Scores of others, one for each of the images."""
    wanted = {e.image_id for e in images}
    rated = {}
    for stage, row in predicted(store, plan):
        if row["image_id"] in wanted:
            label = decode_labels(row["label"])
            shape = label.shape
            rated[row["image_id"]] = rate(label, shares(stage, row, (shape[0], shape[1])))
    names = rated[images[0].image_id]
    return {name: np.array([rated[e.image_id][name] for e in images]) for name in names}


def ours(images: Sequence[Example], others: Sequence[Sequence[Example]]) -> Scores:
    """Our scores of the images.

    Args:
        images: Of one run.
        others: Those of other stores.
    """

    def by(model: TrustModel) -> NDArray[np.float64]:
        return scored(model, images)

    found = {f"{OURS}, five folds": crossed(images)}
    if others:
        found[f"{OURS}, fitted on other stores"] = by(fit(others))
    return {**found, f"{OURS}, shipped": by(shipped_model())}


def table(scores: Scores, images: Sequence[Example]) -> str:
    """One line a score, as Markdown."""
    lines = ["| score | Spearman | AUC, IoU < 50 % | points without the worst fifth |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, values in scores.items():
        told = judged(values, images)
        figures = [told["spearman"], told["auc"], told["gain"]]
        cells = [
            "–" if v is None else f"{v:.{d}f}" for v, d in zip(figures, (3, 3, 1), strict=True)
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Judge every run of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", metavar="STORE[@RUN]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    found = read_runs(parsed.runs)
    for run in found:
        images = run.images
        others = [other.images for other in found if other.store.url != run.store.url]
        scores = {**ours(images, others), **anchors(run.store, run.plan, images)}
        print(f"\n{run.name}: {len(images)} images with masks\n\n{table(scores, images)}")
        for split in sorted({e.split for e in images}):
            of = np.array([e.split == split for e in images])
            if not of.all():
                part = [e for e in images if e.split == split]
                told = {name: values[of] for name, values in scores.items()}
                print(f"\n{split} alone: {len(part)} images\n\n{table(told, part)}", flush=True)


if __name__ == "__main__":
    main()
