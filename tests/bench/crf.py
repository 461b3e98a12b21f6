"""Dense CRFs of cues and of predictions, in two processes on either side.

Processes, since pydensecrf holds the GIL.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dcsp.config import CRFSettings
from dcsp.cues.attention import select_tags
from dcsp.cues.fusion import refine_cue, to_image
from dcsp.images.resize import resize_map
from dcsp.inference.crf import crf_labels
from dcsp.inference.scores import softmax, winning_label
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs
from tests.bench.peers import dense_crf

PROCESSES = 2
GAMMA = 0.4


@dataclass(frozen=True)
class _Cue:
    """One image with what the cue CRF starts from, at image size."""

    image: NDArray[np.uint8]
    attention: NDArray[np.float32]
    saliency: NDArray[np.float32]
    tags: list[int]
    labels: int

    def ours(self) -> NDArray[np.uint8]:
        """Tags and background alone."""
        return refine_cue(
            self.image, self.attention, self.saliency, self.tags, GAMMA, GAMMA, CRFSettings()
        )

    def peer(self) -> NDArray[np.uint8]:
        """All labels."""
        start = dense_crf.cue_probabilities(
            self.attention, self.saliency, self.tags, GAMMA, self.labels
        )
        return dense_crf.all_labels(self.image, start)


@dataclass(frozen=True)
class _Prediction:
    """One image with the softmax of its scores at image size."""

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    def ours(self) -> NDArray[np.uint8]:
        """The labels that matter."""
        ids = range(len(self.probabilities))
        return crf_labels(self.image, self.probabilities, ids, CRFSettings())

    def peer(self) -> NDArray[np.uint8]:
        """All labels."""
        return dense_crf.all_labels(self.image, self.probabilities)


_Task = _Cue | _Prediction
_tasks: list[_Task] = []  # of a worker process


def crf_cues(inputs: Inputs) -> Row:
    """The CRF on cues."""
    photographs = inputs.photographs(inputs.pick(2, 12))
    tasks: list[_Task] = []
    for photograph, scores, passes in zip(
        photographs, inputs.scores(photographs), inputs.passes(photographs), strict=True
    ):
        low = select_tags(scores, photograph.tags, "scores")
        size = photograph.image.shape[:2]
        attention, saliency = to_image(low, passes.max(axis=0), *size)
        tasks.append(_Cue(photograph.image, attention, saliency, photograph.tags, len(scores)))
    labels = [1 + len(photograph.tags) for photograph in photographs]
    return _measure("crf_cues", tasks, labels, inputs)


def crf_inference(inputs: Inputs) -> Row:
    """The CRF on predictions."""
    photographs = inputs.photographs(inputs.pick(2, 12))
    tasks: list[_Task] = []
    labels = []
    for photograph, scores in zip(photographs, inputs.scores(photographs), strict=True):
        full = softmax(resize_map(scores, *photograph.image.shape[:2], corners=True))
        tasks.append(_Prediction(photograph.image, full))
        labels.append(len(np.unique(winning_label(full, range(len(full)))[0])))
    return _measure("crf_inference", tasks, labels, inputs)


def _measure(name: str, tasks: list[_Task], labels: list[int], inputs: Inputs) -> Row:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, _start_worker, (tasks,)) as pool:
        numbers = range(len(tasks))
        pair = compare(
            lambda: list(pool.map(_ours, numbers)),
            lambda: list(pool.map(_peer, numbers)),
            rounds=inputs.pick(1, 5),
        )
    agreement = [(a == b).mean() for a, b in zip(pair.our_result, pair.peer_result, strict=True)]
    return pair.row(
        name,
        len(tasks),
        "image",
        images=f"{len(tasks)} {inputs.images}",
        peer_is="pydensecrf with all 21 labels",
        processes=PROCESSES,
        agreement=float(np.mean(agreement)),
        least_agreement=float(np.min(agreement)),
        labels_in_image=float(np.mean(labels)),
    )


def _start_worker(tasks: list[_Task]) -> None:
    torch.set_num_threads(1)
    _tasks[:] = tasks


def _ours(number: int) -> NDArray[np.uint8]:
    return _tasks[number].ours()


def _peer(number: int) -> NDArray[np.uint8]:
    return _tasks[number].peer()


ROWS: dict[str, Callable[[Inputs], Row]] = {"crf_cues": crf_cues, "crf_inference": crf_inference}
