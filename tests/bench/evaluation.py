"""Confusion matrices of label maps that are ready in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from dcsp.evaluation.confusion import ConfusionMatrix
from dcsp.labels import IGNORE
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs

SHIFT = 9  # pixels that a stand-in prediction lies beside the truth


def evaluate(inputs: Inputs) -> Row:
    """One confusion matrix over a set of images."""
    count = inputs.pick(8, 100)
    truths = [photograph.mask for photograph in inputs.photographs(count)]
    pairs = [(truth, _prediction(truth)) for truth in truths]
    classes = len(inputs.classes)

    def ours() -> NDArray[np.int64]:
        matrices = (ConfusionMatrix.of(t, p, classes) for t, p in pairs)
        return sum(matrices, ConfusionMatrix.empty(classes)).counts[:, :-1]

    def torchmetrics(checked: bool) -> NDArray[np.int64]:
        metric = MulticlassConfusionMatrix(classes + 1, ignore_index=IGNORE, validate_args=checked)
        for truth, prediction in pairs:
            metric.update(torch.from_numpy(prediction).long(), torch.from_numpy(truth).long())
        return np.asarray(metric.compute().numpy())

    rounds = inputs.pick(3, 7)
    pair = compare(ours, lambda: torchmetrics(checked=True), rounds)
    unchecked = compare(ours, lambda: torchmetrics(checked=False), rounds)
    return pair.row(
        "evaluate",
        count,
        "image",
        images=f"{count} masks of {inputs.images}",
        peer_is="torchmetrics MulticlassConfusionMatrix",
        ratio_if_peer_checks_nothing=unchecked.row("", count, "image").ratio,
        equal=bool(np.array_equal(pair.our_result, pair.peer_result)),
    )


def _prediction(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shifted = np.roll(truth, SHIFT, axis=(0, 1))
    return np.where(shifted == IGNORE, np.uint8(0), shifted)


ROWS: dict[str, Callable[[Inputs], Row]] = {"evaluate": evaluate}
