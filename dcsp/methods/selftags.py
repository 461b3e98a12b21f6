"""The steps of self-tags: scores, thresholds, tags, and cues by them apart from other cues."""

from __future__ import annotations

from collections.abc import Iterator

from dcsp.cues.stage import CueStage
from dcsp.methods.shared import StepMaker
from dcsp.selftags.scores import TagScorer, TagScoreStage
from dcsp.selftags.table import Calibration, SelfTagStage
from dcsp.stages.step import Role, Step
from dcsp.tables.fingerprint import StageKey


def selftag_steps(
    make: StepMaker, fcan: StageKey
) -> tuple[Step[TagScoreStage], Step[SelfTagStage]]:
    """Scores of tagged images, and self-tags of untagged ones.

    Scores are of the corpus that the FCAN learned from, and thresholds stay with it: images that
    came since get self-tags without calibrating anew.

    Args:
        make: Makes steps.
        fcan: Key of the FCAN's training.
    """
    calibration = Calibration.of(TagScorer(make.config, fcan), make.snapshot)
    scores = Step(
        Role.TAG_SCORES,
        "tag_scores",
        calibration.scores,
        splits=(calibration.split,),
        corpus=calibration.snapshot,
    )
    selftags = Step(
        Role.SELFTAGS,
        "selftags",
        calibration.stage,
        prepare=calibration,
        also_reads=calibration.scores.key,
    )
    return scores, selftags


def selfcue_steps(step: Step[CueStage], selftags: StageKey) -> Iterator[Step[CueStage]]:
    """The cues of a step by self-tags, last, and what they start from.

    Trainings that the cues need are shared: a helper network learns from given tags alone.

    Args:
        step: Of a cue table.
        selftags: Key of the self-tags.
    """
    *starts, last = step.stage.by_selftags(selftags)
    for start in starts:
        yield Step(Role.SELFSTART, "selfcues_start", start, step.phase)
    yield Step(Role.SELFCUES, f"self{step.title}", last, step.phase)
