"""The mining job: saliency, attention and cues of photographs, from a corpus to Parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.networks.weights import resolve_weights
from dcsp.saliency.detector import SaliencyDetector
from dcsp.saliency.hierarchy import hierarchical_saliency
from tests.bench.harness import Row, against
from tests.bench.inputs import Inputs
from tests.bench.peers.authors_mining import SCALES, AuthorsMining
from tests.bench.peers.bare_forward import seconds_per_image
from tests.bench.stages import CORES, Stages, stages_of
from tests.threads import torch_threads


def mining_vs_forward(inputs: Inputs) -> Row:
    """The job's steady state against forward passes that have nothing else to do."""
    stages = stages_of(inputs)
    images = [p.image for p in inputs.photographs(inputs.pick(4, 48), "train")]
    card, thresholds = stages.detector, stages.config.saliency.thresholds
    file = Path(resolve_weights(card.model, card.sha256))
    counting = _Counting(SaliencyDetector(file, card, threads=CORES))
    hierarchical_saliency(images, counting, thresholds)

    def forwards() -> float:
        with torch_threads(CORES):
            return seconds_per_image(
                images,
                file,
                card,
                counting.images,
                _fcan(stages),
                SCALES,
                stages.config.precision,
                CORES,
            )

    before = forwards()
    _ = stages.cues  # between the peer's two
    return _row(
        "mining_vs_forward",
        stages,
        [before, forwards()],
        f"bare forward passes on preloaded arrays, {len(images)} images before and after, with "
        f"the {counting.images / len(images):.2f} detections an image that they need",
        inputs.images,
    )


def mining_vs_reference(inputs: Inputs) -> Row:
    """The job's steady state against the authors' order of work."""
    stages = stages_of(inputs)
    photographs = inputs.photographs(inputs.pick(2, 12), "train")
    card = stages.detector
    detector = SaliencyDetector(resolve_weights(card.model, card.sha256), card, threads=CORES)
    authors = AuthorsMining(
        inputs.directory / "authors",
        detector,
        _fcan(stages),
        stages.config.saliency.thresholds,
        stages.config.cues.dcsp.gamma_low,
    )
    with torch_threads(CORES):
        peer = [authors.seconds(p.row.image_id, p.data, p.tags) for p in photographs]
    what = f"authors' order of work, re-enacted, {len(peer)} images"
    return _row("mining_vs_reference", stages, peer, what, inputs.images)


def _row(name: str, stages: Stages, peer: list[float], peer_is: str, images: str) -> Row:
    return against(
        name,
        stages.saliency.seconds_each + stages.cues.seconds_each,
        peer,
        "image",
        images=f"{stages.saliency.items} {images}",
        peer_is=f"{peer_is}, {CORES} threads",
        ours_by_stage={
            "saliency": 1000 * stages.saliency.seconds_each,
            "attention and cues": 1000 * stages.cues.seconds_each,
        },
        start_up_seconds=stages.saliency.start_up + stages.cues.start_up,
    )


class _Counting:
    """A detector that counts the images it looks at."""

    def __init__(self, detector: SaliencyDetector) -> None:
        self.height, self.width = detector.height, detector.width
        self.images = 0
        self._detector = detector

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.images += len(images)
        return self._detector(images)


def _fcan(stages: Stages) -> SegmentationNetwork:
    directory = stages.plan.step("fcan").stage.key.directory
    return load_checkpoint(stages.store, directory, SegmentationNetwork).eval()


ROWS: dict[str, Callable[[Inputs], Row]] = {
    "mining_vs_forward": mining_vs_forward,
    "mining_vs_reference": mining_vs_reference,
}
