"""Confident areas: pixels whose label is sure enough to learn affinities from (method 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.config import CRFSettings, RunConfig
from dcsp.cues.stage import CueStage, EvidenceStage, Row
from dcsp.cues.table import CueRow
from dcsp.inference.crf import DenseCRF
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND, IGNORE
from dcsp.stages.parts import TableInput
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import OK

VERSION = 2


def with_background(evidence: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Evidence (nHW in [0, 1]) with the background score (1 − max)^α before it: (1+n)HW."""
    background = (1.0 - evidence.max(axis=0, keepdims=True)) ** alpha
    return np.concatenate([background.astype(np.float32), evidence])


def confident_areas(
    image: NDArray[np.uint8],
    evidence: NDArray[np.float32],
    tags: Sequence[int],
    alpha_low: float,
    alpha_high: float,
    crf: CRFSettings,
) -> NDArray[np.uint8]:
    """Where the label is the same however strong the background is made.

    A pixel that a class wins against the stronger background (``alpha_low``) is of that class, one
    that the weaker background (``alpha_high``) wins is background, each after the dense CRF.

    Args:
        image: HWC uint8 RGB.
        evidence: nHW float32 in [0, 1], one map a tag.
        tags: n class ids, sorted and unique, at least one.
        alpha_low: Smaller exponent of the background score.
        alpha_high: Larger exponent.
        crf: Kernels and iterations.

    Returns:
        HW uint8: 0, a tag, or 255.
    """
    ids = (BACKGROUND, *tags)
    field = DenseCRF(image, len(ids), crf)
    areas, _ = winning_label(field(with_background(evidence, alpha_low)), ids)
    lenient, _ = winning_label(field(with_background(evidence, alpha_high)), ids)
    areas[(areas == BACKGROUND) & (lenient != BACKGROUND)] = IGNORE
    return areas


@dataclass(frozen=True)
class AreasStage(CueStage):
    """Confident areas of other cues, as a cue table of their own.

    Attributes:
        config: Settings of the run.
        start: The cues.
    """

    config: RunConfig
    start: EvidenceStage

    method = "areas"

    @property
    def given_key(self) -> StageKey:
        """The cues, both exponents and the CRF decide the areas."""
        settings = self.config.cues.affinity
        return StageKey(
            "cues",
            VERSION,
            settings={
                "method": self.method,
                "alpha_low": settings.alpha_low,
                "alpha_high": settings.alpha_high,
                "areas_crf": settings.areas_crf.model_dump(mode="json"),
                **self.images.key(uses_crf=False),
            },
            inputs={"start": self.start.key.fingerprint},
        )

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """The evidence."""
        return self.start.evidence_inputs

    @property
    def needs_image(self) -> bool:
        """For the CRF."""
        return True

    def wants(self, row: Row) -> bool:
        """Images that have evidence."""
        return bool(row["start.status"] == OK)

    def cue(self, row: Row) -> CueRow:
        """Two CRFs an image."""
        if row["start.status"] != OK:
            return CueRow(error=row["start.error"])
        settings = self.config.cues.affinity
        return CueRow(
            confident_areas(
                self.images.decode(row["bytes"]),
                self.start.evidence(row),
                row["tags"],
                settings.alpha_low,
                settings.alpha_high,
                settings.areas_crf,
            )
        )
