"""What bfloat16 costs: labels and maps of photographs against float32, by real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dcsp.config import PrecisionSettings, PredictSettings
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.inference.prediction import predict_labels
from dcsp.networks.precision import arithmetic
from tests.bench.inputs import Inputs, Photograph
from tests.photographs import needs_photographs

BF16 = PrecisionSettings(autocast="bf16")
PAPER = Views("scores", (1.0, 0.75, 0.5))


def labelled(photograph: Photograph, scores: np.ndarray) -> np.ndarray:
    size, settings = photograph.image.shape[:2], PredictSettings(crf=False)
    return predict_labels(scores, *size, settings, lambda: photograph.image).label


@pytest.mark.skipif(
    arithmetic(BF16, "cpu") is not torch.bfloat16,
    reason="this CPU has no bfloat16: dcsp computes in float32 here",
)
@pytest.mark.network
@needs_photographs
def test_one_label_in_fifty_at_most_is_another_in_bfloat16(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path, quick=True)
    photographs = inputs.photographs(8)
    exact = inputs.scores(photographs)
    network = prepare(inputs.network, BF16, "cpu")
    images = [photograph.image for photograph in photographs]
    rounded = score_views(network, images, PAPER, max_side=None, precision=BF16)
    labels = [
        [labelled(p, s) for p, s in zip(photographs, scores, strict=True)]
        for scores in (exact, rounded)
    ]
    same = [float((a == b).mean()) for a, b in zip(*labels, strict=True)]
    assert np.mean(same) > 0.98
    assert np.mean(same) < 1.0  # or bfloat16 was not used
