"""How strongly the attention network believes that an image shows each class.

Scores mean nothing by themselves: :mod:`dcsp.selftags.calibration` finds out on tagged images from
which score on a class is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.config.base import Source
from dcsp.cues.attention import output_of
from dcsp.cues.table import CueImages
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.rows import RowResults, infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD_COLUMNS, TAG_SCORES

VERSION = 2

RowScorer = Callable[[pa.Table, Sequence[bool]], RowResults[NDArray[np.float32]]]
"""The rows of a part, and which of them are wanted → scores (C,) of those."""


def image_scores(maps: NDArray[np.float32], source: Source) -> NDArray[np.float32]:
    """One score a class from the fused maps of an image.

    Args:
        maps: The attention volume, Chw, whose mean is the logit that ℓ_c trains (eq. 1); or
            probabilities, (C+1)hw.
        source: Which of the two.

    Returns:
        (C,) float32 in [0, 1]: the sigmoid of the logit, or the highest probability.
    """
    if source == "probabilities":
        scores: NDArray[np.float32] = maps[1:].max(axis=(1, 2)).clip(0.0, 1.0)
        return scores
    logits: NDArray[np.float64] = maps.mean(axis=(1, 2), dtype=np.float64)
    return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)


@dataclass(frozen=True)
class TagScorer:
    """Scores images with the attention network.

    Attributes:
        config: Settings of the run.
        network: Key of the FCAN's training.
    """

    config: RunConfig
    network: StageKey

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @property
    def key(self) -> dict[str, Any]:
        """The settings that decide a score."""
        settings = self.config.selftags.model_dump(
            mode="json", include={"source", "scales", "flip"}
        )
        return settings | self.images.key(uses_crf=False)

    def load(self, store: Store, device: Device) -> RowScorer:
        """Load the network."""
        settings, precision = self.config.selftags, self.images.precision
        network = prepare(
            load_checkpoint(store, self.network.directory, SegmentationNetwork),
            precision,
            device.name,
        )
        views = Views(output_of(settings.source), settings.scales, settings.flip, fuse="mean")

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[NDArray[np.float32]]:
            maps = score_views(
                network, images, views, max_side=None, precision=precision, device=device.name
            )
            return [image_scores(found, settings.source) for found in maps]

        def score(rows: pa.Table, wanted: Sequence[bool]) -> RowResults[NDArray[np.float32]]:
            return infer_rows(rows, self.images.decode, infer, wanted=wanted, device=device)

        return score


def with_results(rows: pa.Table, results: RowResults[NDArray[np.float32]]) -> pa.Table:
    """Rows without their bytes, with scores, status and error."""
    scores = [None if value is None else value.tolist() for value in results.values]
    kept = rows.select([*HEAD_COLUMNS, "tags"])
    return results.onto(kept, "scores", scores, pa.list_(pa.float32()))


@dataclass(frozen=True)
class TagScoreStage(TableStage):
    """Scores of tagged images, which thresholds are calibrated on.

    Attributes:
        scorer: Scores images.
    """

    scorer: TagScorer

    schema = TAG_SCORES

    @cached_property
    def key(self) -> StageKey:
        """Network, views and arithmetic decide the scores."""
        inputs = {"network": self.scorer.network.fingerprint}
        return StageKey("tag_scores", VERSION, self.scorer.key, inputs)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; images without tags are skipped."""
        score = self.scorer.load(store, device)

        def model(rows: pa.Table) -> pa.Table:
            wanted = [bool(tags) for tags in rows["tags"].to_pylist()]
            return with_results(rows, score(rows, wanted))

        return model
