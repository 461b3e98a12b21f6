"""The steps of self-tags: scores, thresholds, tags, and cues by them apart from other cues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from dcsp.cues.adapt import AdaptStage
from dcsp.cues.dcsp import DCSPStage
from dcsp.errors import ConfigError
from dcsp.methods.affinity.cues import AffinityStage
from dcsp.methods.mcof.cues import RegionStage
from dcsp.methods.shared import Workshop
from dcsp.selftags.scores import TagScorer
from dcsp.selftags.table import Calibration
from dcsp.stages.step import TRAIN, Step
from dcsp.tables.fingerprint import StageKey

CueStage = TypeVar("CueStage")

SELFTAGS = "selftags"
"""Title of the step whose table holds self-tags."""


def selftag_steps(shop: Workshop, fcan: StageKey) -> tuple[Step, Step]:
    """Scores of tagged images, and self-tags of untagged ones.

    Scores are of the corpus that the FCAN learned from, and thresholds stay with it: images that
    came since get self-tags without calibrating anew.

    Args:
        shop: Makes steps.
        fcan: Key of the FCAN's training.
    """
    calibration = Calibration.of(TagScorer(shop.config, fcan), shop.snapshot)
    scores = Step(
        "tag_scores", calibration.scores, (calibration.split,), corpus=calibration.snapshot
    )
    return scores, Step(SELFTAGS, calibration.stage, TRAIN, prepare=calibration)


def selfcue_steps(step: Step, selftags: StageKey) -> Iterator[Step]:
    """The cues of a step by self-tags, last, and what they start from.

    Trainings that the cues need are shared: a helper network learns from given tags alone.

    Args:
        step: Of a cue table.
        selftags: Key of the self-tags.

    Raises:
        ConfigError: The cue method does not know self-tags.
    """
    stage = step.stage
    if isinstance(stage, AffinityStage):
        start = _by_selftags(stage.start, selftags)
        yield Step("selfcues_start", start, TRAIN)
        yield Step(f"self{step.title}", replace(stage, start=start, selftags=selftags), TRAIN)
    else:
        yield Step(f"self{step.title}", _by_selftags(stage, selftags), TRAIN)


def _by_selftags(stage: CueStage, selftags: StageKey) -> CueStage:
    """The same cues by self-tags."""
    if not isinstance(stage, AdaptStage | DCSPStage | RegionStage):
        raise ConfigError(
            f"The cues of a {type(stage).__name__} cannot be mined by self-tags: "
            "set selftags.use=never."
        )
    return replace(stage, selftags=selftags)
