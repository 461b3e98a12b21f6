"""Verdicts without a mask on labels made on purpose, of a network that is simulated: all levels.

Its probabilities are those of the truth, blurred, and smooth noise; labels, the labels of the
network alone, cues and confidences follow from them as in a run, so that no signal is set by hand.
"""

from __future__ import annotations

import io
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from dcsp.config import SceneSettings
from dcsp.corpus.sources.scenes import ScenesSource
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.trust import TrustCounter, trust_metrics
from dcsp.labels import SCENE_CLASSES
from dcsp.report.data import ReportData
from dcsp.report.standing import EXPECTED_ERROR, GOOD_MIOU, USABLE_MIOU, standing
from dcsp.trust.score import shipped_model
from dcsp.trust.signals import Seen, measure

CLASSES = len(SCENE_CLASSES)
Labels = NDArray[np.uint8]
Maps = NDArray[np.float64]


class Corpus(NamedTuple):
    """How a simulated network sees: noise against evidence of 6, and blur in pixels."""

    noise: float
    blur: float
    level: str


ON_PURPOSE = (
    Corpus(0.2, 1, "good"),
    Corpus(0.8, 1, "good"),
    Corpus(0.2, 4, "good"),
    Corpus(1.5, 1, "good"),
    Corpus(2.5, 4, "caution"),
    Corpus(2.0, 8, "caution"),
    Corpus(3.0, 1, "caution"),
    Corpus(6.0, 1, "bad"),
    Corpus(6.0, 4, "bad"),
    Corpus(6.0, 8, "bad"),
)


@cache
def truths() -> list[Labels]:
    """Masks of generated scenes of 96×128 pixels."""
    settings = SceneSettings(train=24, val=1, height=96, width=128)
    source = ScenesSource(settings, SCENE_CLASSES, 0, ("train",))
    masks = (source.read_mask(row) for row in source.list_rows().rows)
    return [np.array(Image.open(io.BytesIO(mask))) for mask in masks if mask]


def smooth_noise(rng: np.random.Generator, *shape: int) -> Maps:
    """Of variance 1, maps of it smooth over 8 pixels."""
    sigma = (0,) * (len(shape) - 2) + (8, 8)
    found: Maps = gaussian_filter(rng.standard_normal(shape), sigma)
    return found / found.std()


def probabilities(rng: np.random.Generator, truth: Labels, corpus: Corpus) -> Maps:
    maps = [gaussian_filter((truth == c).astype(float), corpus.blur) for c in range(CLASSES + 1)]
    logits = 6 * np.stack(maps) + corpus.noise * smooth_noise(rng, CLASSES + 1, *truth.shape)
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))


def seen(rng: np.random.Generator, truth: Labels, corpus: Corpus) -> Seen:
    """What a run would know of an image: never its truth."""
    tags = [int(id_) for id_ in np.unique(truth) if id_]
    ids = np.array([0, *tags], np.uint8)
    last, before = (probabilities(rng, truth, corpus) for _ in range(2))
    label = ids[last[ids].argmax(axis=0)]
    shares = last[ids] / last[ids].sum(axis=0)
    sure = {
        int(id_): float(share[label == id_].mean())
        for id_, share in zip(ids, shares, strict=True)
        if (label == id_).any()
    }
    outline = gaussian_filter((truth > 0).astype(float), 2)
    saliency = outline + 0.05 * corpus.noise * smooth_noise(rng, *truth.shape)
    return Seen(
        tags=tags,
        label=label,
        network=last.argmax(axis=0).astype(np.uint8),
        confidences=sure,
        cue=ids[before[ids].argmax(axis=0)],
        saliency=saliency.clip(0, 1).astype(np.float32),
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("corpus", ON_PURPOSE, ids=str)
def test_the_verdict_without_masks_agrees_with_the_truth(corpus: Corpus, seed: int) -> None:
    rng, model = np.random.default_rng(seed), shipped_model()
    rows, matrix = [], ConfusionMatrix.empty(CLASSES)
    for truth in truths():
        image = seen(rng, truth, corpus)
        classes = model.classes(measure(image), image.tags)
        told = [
            {"class": c.class_id, "pixels": c.pixels, "score": c.score, "reasons": c.reasons}
            for c in classes
        ]
        rows.append(
            {
                "height": truth.shape[0],
                "width": truth.shape[1],
                "tags": image.tags,
                "status": "ok",
                "score": model.score(classes),
                "classes": told,
            }
        )
        matrix += ConfusionMatrix.of(truth, image.label, CLASSES)
    sums = TrustCounter(rows, CLASSES).sums
    true = matrix.mean_iou()
    assert corpus.level == (
        "good" if true >= GOOD_MIOU else "caution" if true >= USABLE_MIOU else "bad"
    )
    trust = trust_metrics({"train": sums}, SCENE_CLASSES, model.missed)
    assert trust is not None
    assert trust["expected_miou"] == pytest.approx(true, abs=1.5 * EXPECTED_ERROR)
    run = ReportData("r", "today", "s", "scenes", SCENE_CLASSES, {"train": 24}, trust=trust)
    assert standing(run).level == corpus.level
