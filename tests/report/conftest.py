"""A run to report on, small and complete."""

import numpy as np
import pytest

from dcsp.evaluation.bootstrap import Samples
from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.evaluation.quality import Figures, Quality, summarize
from dcsp.evaluation.selftags import SelfTagFigures
from dcsp.report.data import Card, CuePhase, Curve, ReportData
from dcsp.report.layers import Pictures

CLASSES = ("cat", "dog", "cow")


def figures(wrong: float, images: int = 200, seed: int = 0) -> Figures:
    """Figures of labels of which a share of pixels is background instead of what it should be."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (60, 60), dtype=np.uint8)
    labels = np.where(rng.random(truth.shape) < wrong, 0, truth).astype(np.uint8)
    matrix = ConfusionMatrix.of(truth, labels, 3)
    samples = Samples(Samples.of({"all": matrix}).counts, np.full(4, images))
    return summarize(Quality(matrix, images=images, samples=samples), CLASSES)


def pictures(side: int = 48, seed: int = 3) -> Pictures:
    """An image of noise with everything made of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (side, side), dtype=np.uint8)
    cue = labels.copy()
    cue[:8] = 255
    return Pictures(
        rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
        {"published": labels, "ground truth": labels, "cue 0": cue, "cue 1": labels},
        rng.random((side, side)) < 0.1,
        {"S_1": rng.random((20, 20), np.float32), "S_3": rng.random((20, 20), np.float32)},
        {"attention, cat": rng.random((6, 6), np.float32)},
    )


def card(image_id: str = "folder/image-1") -> Card:
    """An image with everything that a card can tell."""
    return Card(
        image_id,
        "val",
        (1, 3),
        shown=(1, 2),
        trust=0.25,
        iou=40.0,
        changed=0.1,
        reasons=[(1, "no_pixels"), (2, "confidence")],
        layers=pictures().layers(100_000),
    )


def selftag_figures() -> SelfTagFigures:
    """Self-tags of a run in which one class of two has a threshold."""
    return {
        "use": "train",
        "untagged": 2000,
        "self_tagged": 1300,
        "split": "val",
        "held_out": True,
        "calibrated_on": 40,
        "precision": 0.9,
        "min_support": 20,
        "per_class": {
            "cat": {
                "threshold": 0.75, "precision": 0.95, "lower": 0.82, "recall": 0.7,
                "reached": 21, "tagged": 30, "images": 1200,
            },
            "dog": {
                "threshold": None, "precision": None, "lower": None, "recall": None,
                "reached": 0, "tagged": 3, "images": 0,
            },
        },
    }  # fmt: skip


@pytest.fixture
def run() -> ReportData:
    """A run in which everything went well."""
    return good_run()


def good_run() -> ReportData:
    """What the fixture is."""
    falling = [(step, 1.0 / (1 + step)) for step in range(0, 4000, 10)]
    return ReportData(
        run_id="demo-1",
        created="1 August 2026",
        store="./store",
        corpus="scenes",
        classes=CLASSES,
        images={"train": 240, "val": 60},
        cues=[
            CuePhase(0, "dcsp", figures(0.3), miou_first_pass=figures(0.4)["miou"]),
            CuePhase(1, "adapt", figures(0.2)),
        ],
        prediction=figures(0.15),
        prediction_crf=figures(0.1),
        curves=[Curve("fcan", {"classification": falling})],
        seconds={"saliency": 31.0, "fcan": 4000.0},
        reused=frozenset({"saliency"}),
        rows={"predictions": {"ok": 300, "skipped": 0, "error": 0}},
        fingerprints={"saliency": "0123abcd"},
        settings="store: ./store\n",
        versions={"torch": "2.13.0"},
        gallery=[card()],
    )


@pytest.fixture
def bare() -> ReportData:
    """A run that has no masks, no training and no images to show."""
    return ReportData("bare", "today", "./store", "folder", CLASSES, {"train": 5})
