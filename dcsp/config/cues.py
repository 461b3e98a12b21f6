"""Cue methods: one block a method (paper 4; method 1–5)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dcsp.config.base import Fuse, PositiveFloat, PositiveInt, Scales, Settings, Source, Unit
from dcsp.config.networks import CRFSettings
from dcsp.config.training import TrainSettings

Mean = Literal["harmonic", "geometric", "arithmetic"]
"""How attention and saliency are brought together."""


class AttentionSettings(Settings):
    """Multi-scale attention (paper 4.1)."""

    source: Source = "fcan"
    """``fcan``: the attention volume V, min-max normalised; ``probabilities``: softmax of the score
    map f over background and tags, for an FCAN trained with ``saliency_weight``. Paper: fcan."""
    scales: Scales = (1.0, 0.75, 0.5)
    """Scales of the image that attention is taken at. Paper: 1, 0.75, 0.5."""
    flip: bool = False
    """Also look at the mirrored image. Paper: false."""
    fuse: Fuse = "max"
    """How the views are fused, pixel-wise. Paper: max."""
    relu: bool = False
    """Clip negative attention to 0 before views are fused. Paper: false."""


class DCSPSettings(Settings):
    """Algorithm 1 of the paper, with the options that its successors found useful."""

    attention: AttentionSettings = AttentionSettings()
    saliency_pass: Annotated[int, Field(ge=0)] = 3
    """Which S_k is used; 0: none, attention alone. Paper: 3."""
    mean: Mean = "harmonic"
    """Of attention and saliency. ``harmonic`` and ``geometric`` ask for both; ``arithmetic``:
    either may speak up for the other, but where there is no attention at all (below 1/510, as it is
    stored) there is no object. Paper: harmonic."""
    gamma_low: Unit = 0.4
    """A mean below this is background. Paper: 0.4."""
    gamma_high: Unit = 0.4
    """A mean from ``gamma_low`` up to this is ignored (255). Paper: 0.4, no ignored band."""
    crf: bool = False
    """Refine the cue with the dense CRF. Paper: false."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> DCSPSettings:
        if self.gamma_low > self.gamma_high:
            raise ValueError(
                f"gamma_low ({self.gamma_low}) must not exceed gamma_high ({self.gamma_high})"
            )
        return self

    @model_validator(mode="after")
    def _arithmetic_mean_needs_saliency(self) -> DCSPSettings:
        if self.mean == "arithmetic" and self.saliency_pass == 0:
            raise ValueError(
                "mean=arithmetic of attention and no saliency (saliency_pass=0) is never below a "
                "half: leave mean out, or use a saliency pass"
            )
        return self


class AffinitySettings(Settings):
    """AffinityNet (Ahn and Kwak 2018): cues spread by a random walk over learned affinities.

    As ``cues.method`` it starts from attention alone; as ``cues.refine`` from any method's cues.
    """

    attention: AttentionSettings = AttentionSettings(
        scales=(0.5, 1.0, 1.5, 2.0), flip=True, fuse="mean", relu=True
    )
    """Attention that the method starts from; not used as a refinement."""
    gamma: Unit = 0.4
    """Threshold of the cues of that attention alone, which are measured and not learned from."""
    alpha_low: PositiveFloat = 4.0
    """Exponent of the background score (1 − max)^α under which a foreground pixel is sure."""
    alpha_high: PositiveFloat = 32.0
    """Exponent under which a background pixel is sure."""
    areas_crf: CRFSettings = CRFSettings(
        bilateral_sxy=80.0, bilateral_srgb=13.0, bilateral_compat=10.0
    )
    """The dense CRF of confident areas. The authors': these."""
    alpha: PositiveFloat = 16.0
    """Exponent of the background score that walks along."""
    radius: Annotated[int, Field(ge=2, le=16)] = 5
    """Cells further apart than this are no pair; a cell is 8 pixels."""
    beta: PositiveFloat = 8.0
    """Exponent of the affinities: the higher, the fewer paths."""
    walk_steps: Annotated[int, Field(ge=0)] = 256
    """Length of the walk."""
    crf: bool = False
    """Refine the walked cue with the dense CRF. Paper: false."""
    train: TrainSettings = TrainSettings(steps=5_000, batch=8, head_multiplier=10.0)
    """Training of the affinity network."""

    @model_validator(mode="after")
    def _exponents_are_ordered(self) -> AffinitySettings:
        if self.alpha_low > self.alpha_high:
            raise ValueError(
                f"alpha_low ({self.alpha_low}) must not exceed alpha_high ({self.alpha_high})"
            )
        return self


class SuperpixelSettings(Settings):
    """Superpixels (Felzenszwalb and Huttenlocher 2004) of an image at the size it is worked on.

    With the defaults the 330 training images of VOC that were tried, about 500×375 pixels, have
    164 superpixels on average (90 % have 71–255); labelled by their true majority they reach an
    mIoU of 92.3. Half the ``min_size`` gives finer regions, a larger ``scale`` coarser ones.
    """

    scale: PositiveFloat = 100.0
    """How unlike two regions must be to stay apart, in grey levels 0–255 times pixels: regions
    grow with it."""
    sigma: Annotated[float, Field(ge=0)] = 0.8
    """Standard deviation of the smoothing before it, in pixels."""
    min_size: PositiveInt = 150
    """Smaller regions are merged into a neighbour, in pixels."""


class MCOFSettings(Settings):
    """MCOF (Wang et al. 2018): superpixels and the network label each other in rounds."""

    rounds: PositiveInt = 5
    """Rounds of RegionNet and network; ``adapt.rounds`` is not used. Paper: 5."""
    seeds: DCSPSettings = DCSPSettings(saliency_pass=0, gamma_low=0.3, gamma_high=0.6)
    """Cues of the first round's seeds: attention with an ignored band."""
    superpixels: SuperpixelSettings = SuperpixelSettings()
    min_share: Unit = 0.5
    """A superpixel is labelled where one seed covers this share of it."""
    refined_rounds: Annotated[int, Field(ge=0)] = 1
    """The first rounds, in which saliency under Bayes refines images of one tag. Paper: 1."""
    bins: Annotated[int, Field(ge=1, le=256)] = 16
    """Bins per colour of the histograms of that."""
    train: TrainSettings = TrainSettings(steps=3_000)
    """Training of RegionNet, once a round."""


class BuiltinSettings(Settings):
    """Built-in priors (Saleh et al. 2016): foreground from the backbone's own activations."""

    attention: AttentionSettings = AttentionSettings()
    """Class-specific localisation maps."""
    sign: Literal["positive", "absolute", "signed"] = "positive"
    """What of an activation counts: backbones whose stages end without a ReLU have both signs."""
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Foreground that is as likely as background, before the CRF of the mask."""
    mask: bool = True
    """Localisation maps share the mask; false: the foreground map before its CRF."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.35
    """Geometric mean of foreground and localisation at which background is as likely."""
    exponent: PositiveFloat = 2.0
    """Of localisation maps: the higher, the more the strongest class gets."""
    crf: bool = True
    """Refine the cue with the dense CRF."""


class AdaptSettings(Settings):
    """Cues from the jointly trained network itself (paper 4.3)."""

    rounds: Annotated[int, Field(ge=0)] = 1
    """How often cues are mined anew and training restarted. Paper: 1."""
    dcsp: DCSPSettings | None = None
    """Algorithm 1 again, with the trained network in the FCAN's place, by these settings; left out:
    the network's own labels, by the settings below. Paper: left out."""
    scales: Scales = (1.0, 0.75, 0.5)
    """Scales of the image that the network looks at. Paper: 1, 0.75, 0.5."""
    flip: bool = False
    """Also look at the mirrored image. Paper: false."""
    fuse: Fuse = "max"
    """Of the views, pixel-wise: ``max`` of raw scores, or ``mean`` of probabilities. Paper: max."""
    crf: bool = False
    """Refine the cue with the dense CRF. Paper: false."""

    @model_validator(mode="after")
    def _one_rule(self) -> AdaptSettings:
        own = {"scales", "flip", "fuse", "crf"}
        defaults = {name: type(self).model_fields[name].default for name in own}
        changed = sorted(n for n, default in defaults.items() if getattr(self, n) != default)
        if self.dcsp and changed:
            raise ValueError(
                f"adapt.{', adapt.'.join(changed)} would do nothing beside adapt.dcsp: set "
                "adapt.dcsp.attention and adapt.dcsp.crf, or leave adapt.dcsp out"
            )
        return self


METHOD_NAMES = ["dcsp", "affinity", "mcof", "builtin"]
"""What ``cues.method`` may be; each has a block of settings of its name."""


class CueSettings(Settings):
    """Which cues the segmentation network learns from."""

    method: str = "dcsp"
    """The cue method; see docs/methods.md."""
    refine: Literal["affinity"] | None = None
    """What spreads the cues of phase 0 further; left out: nothing."""
    dcsp: DCSPSettings = DCSPSettings()
    affinity: AffinitySettings = AffinitySettings()
    mcof: MCOFSettings = MCOFSettings()
    builtin: BuiltinSettings = BuiltinSettings()
    compare: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], DCSPSettings] = Field(
        default_factory=dict
    )
    """Name → further settings of DCSP to mine and measure beside the cues that are trained on, if
    ``method`` is dcsp; ``start``, ``areas``, and ``phase`` or ``seeds`` with a digit are taken."""
    adapt: AdaptSettings = AdaptSettings()
    crf: CRFSettings = CRFSettings()
    """The dense CRF, where a cue method uses it."""

    @field_validator("method")
    @classmethod
    def _is_a_method(cls, value: str) -> str:
        if value not in METHOD_NAMES:
            raise ValueError(f"{value!r} is no cue method: name one of {', '.join(METHOD_NAMES)}")
        return value

    @model_validator(mode="after")
    def _refines_something_else(self) -> CueSettings:
        if self.method == self.refine:
            raise ValueError(f"cues.method={self.method} is refined by itself: leave refine out")
        return self

    @field_validator("compare")
    @classmethod
    def _names_are_free(cls, value: dict[str, DCSPSettings]) -> dict[str, DCSPSettings]:
        taken = [
            name
            for name in value
            if name in ("start", "areas") or re.match(r"(phase|seeds)\d", name)
        ]
        if taken:
            raise ValueError(f"the name {taken[0]!r} is the run's own: call it something else")
        return value
