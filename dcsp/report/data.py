"""What a report shows: plain values that a job fills from the tables and figures of a run.

Nothing here reads a store. Underscores in names of stages and tables are shown as spaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dcsp.corpus.rejected import BAD_MASK
from dcsp.evaluation.changes import Against
from dcsp.evaluation.quality import Figures
from dcsp.evaluation.selftags import SelfTagFigures
from dcsp.evaluation.trust import TrustFigures
from dcsp.methods.base import Words
from dcsp.report.layers import Layer
from dcsp.tables.snapshot import TRAIN, Masks


@dataclass(frozen=True)
class CuePhase:
    """The cues of one phase and their quality.

    Attributes:
        phase: 0 for the first cues, 1 and up after each adapt (paper 4.3).
        method: The cue method, such as ``"dcsp"`` or ``"adapt"``.
        figures: Compared with the ground truth; None where there is none.
        miou_first_pass: Mean IoU, 0-100, of the same attention fused with S_1 alone, which tells
            what hierarchical saliency gained; None where it was not measured.
    """

    phase: int
    method: str
    figures: Figures | None = None
    miou_first_pass: float | None = None


@dataclass(frozen=True)
class Curve:
    """The losses of one training stage.

    Attributes:
        stage: Name of the stage, such as ``"joint_phase0"``.
        losses: Name of the loss → (step, value) pairs in order of steps.
    """

    stage: str
    losses: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True, eq=False)
class Card:
    """One image in the gallery.

    Attributes:
        image_id: Id of the image.
        split: Its split.
        tags: Class ids, sorted.
        shown: Class ids that its published label shows, background and 255 left out.
        trust: Expected IoU in [0, 1]; None where it was not told.
        iou: Mean IoU with its mask, 0-100; None where there is none.
        changed: Share of its pixels in [0, 1] whose label is another than in the published run;
            None where that is not known.
        reasons: Class id and what lowers its trust (:data:`dcsp.trust.score.REASONS`).
        is_corrected: Whether a person corrected its published label.
        error: Why something of this image is missing.
        layers: What is to be seen, the photograph first; may be empty.
    """

    image_id: str
    split: str
    tags: Sequence[int]
    shown: Sequence[int] = ()
    trust: float | None = None
    iou: float | None = None
    changed: float | None = None
    reasons: Sequence[tuple[int, str]] = ()
    is_corrected: bool = False
    error: str | None = None
    layers: Sequence[Layer] = ()


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything on the page.

    Attributes:
        run_id: Id of the run.
        created: When the run ended, as text.
        store: Path or URL of the store.
        corpus: One line that names the source of the images.
        classes: Class names in id order, background left out.
        images: Split → number of images.
        method: What the cue method calls its parts.
        start: Cues that the method made those of phase 0 from; empty where it made none better.
        cues: The phases in order.
        compared: Name → figures of phase 0 cues mined with other settings, for comparison alone.
        prediction: Figures of the network's own labels before the CRF, on images that have a mask.
        prediction_crf: Figures after the CRF; None where the CRF is off.
        published: Split → figures of the labels that are published, tags being used where known.
        measured_split: Split the prediction's figures were taken on.
        curves: Losses of the training stages, in order.
        seconds: Stage → wall seconds it took when it was computed, in order of the chain.
        reused: Stages whose result lay in the store already.
        rows: Table → status (``ok``, ``skipped``, ``error``) → rows.
        rejected: Reason → images that ingest refused, and tags and masks of images that it kept.
        fingerprints: Stage → fingerprint of its output.
        settings: The resolved config as YAML.
        versions: Package → version the run was made with.
        gallery: Images to show, in order.
        against: What changed against the run that was published before; None where nothing is
            known of that.
        masks: What ingest found of the masks.
        ends_with_cues: Whether the run was to end with a cue table: no network, no predictions.
        selftags: Figures of self-tags; None for a run without them.
        trust: What the trust table says; None for a run without one.
        selfcues: Figures of cues by self-tags, of the last phase; None where nothing was measured.
        corrections: What was compared with what people corrected → figures.
    """

    run_id: str
    created: str
    store: str
    corpus: str
    classes: Sequence[str]
    images: Mapping[str, int]
    method: Words = field(default_factory=Words)
    start: Sequence[CuePhase] = ()
    cues: Sequence[CuePhase] = ()
    compared: Mapping[str, Figures | None] = field(default_factory=dict)
    prediction: Figures | None = None
    prediction_crf: Figures | None = None
    published: Mapping[str, Figures | None] = field(default_factory=dict)
    measured_split: str = "val"
    curves: Sequence[Curve] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    reused: frozenset[str] = frozenset()
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    gallery: Sequence[Card] = ()
    against: Against | None = None
    masks: Masks = field(default_factory=Masks)
    ends_with_cues: bool = False
    selftags: SelfTagFigures | None = None
    selfcues: Figures | None = None
    trust: TrustFigures | None = None
    corrections: Mapping[str, Figures | None] = field(default_factory=dict)

    @property
    def bad_masks(self) -> int:
        """Masks that ingest could not use."""
        return self.rejected.get(BAD_MASK, 0)

    @property
    def final(self) -> Figures | None:
        """The figures that the verdict rests on.

        Of held-out images the network's own labels, with the CRF where it is on; where there are
        none, what is published of the images that it learned from.
        """
        return self._learned_labels or self.prediction_crf or self.prediction

    @property
    def measured(self) -> str:
        """Whose labels :attr:`final` is of."""
        return "the published labels" if self._learned_labels else "the network without any tags"

    @property
    def _learned_labels(self) -> Figures | None:
        """Figures of what is published of images that were learned from, if nothing is held out."""
        return self.published.get(TRAIN) if self.measured_split == TRAIN else None
