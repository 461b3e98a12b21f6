"""Every setting of a run, with its unit, its range and the paper's value (Chaudhry et al. 2017).

It holds settings alone: :mod:`dcsp.config_file` reads and writes them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dcsp.errors import ConfigError
from dcsp.labels import VOC_CLASSES, TagMapper

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Base of every block of settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SceneSettings(Settings):
    """Generated scenes with known masks (``corpus.kind: scenes``)."""

    train: PositiveInt = 240
    """Images of the training split."""
    val: PositiveInt = 60
    """Images of the validation split."""
    height: Annotated[int, Field(ge=48)] = 192
    """Image height in pixels."""
    width: Annotated[int, Field(ge=48)] = 256
    """Image width in pixels."""
    max_classes: Annotated[int, Field(ge=1, le=6)] = 3
    """Most classes in one image; each image has at least one."""


class CorpusSettings(Settings):
    """Where the images and their tags come from."""

    kind: Literal["scenes", "voc", "folder", "parquet"]
    """``voc``: PASCAL VOC layout; ``folder``: images and a tag table; ``parquet``: shards with
    embedded images; ``scenes``: generated."""
    root: str | None = None
    """Folder, Parquet file or fsspec URL of the source; not needed for ``scenes``."""
    tags: str | None = None
    """Tag table of a ``folder`` corpus: CSV, JSONL or Parquet with ``image`` and ``tags`` columns;
    left out: ``tags.csv|jsonl|parquet`` in ``root``."""
    masks: str | None = None
    """Folder of ground-truth masks (PNG of class ids, named like the images) of a ``folder``
    corpus, used by evaluation alone."""
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=254)] = VOC_CLASSES
    """Class names in id order, background left out: the first has id 1."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Tag → class name, for tags that are spelled another way; matching ignores case."""
    splits: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train", "val")
    """Splits to ingest, where the source has them."""
    limit: PositiveInt | None = None
    """Most images to take per split, in hash order of their ids; left out: all."""
    part_rows: Annotated[int, Field(ge=1, le=4096)] = 256
    """Images per part: the unit of work, of retry and of resume."""
    max_pixels: PositiveInt = 100_000_000
    """An image with more pixels is rejected before it is decoded."""
    max_rejected_share: Unit = 0.1
    """Ingest stops when more than this share of the images is rejected."""
    scenes: SceneSettings = SceneSettings()

    @model_validator(mode="after")
    def _root_is_given(self) -> CorpusSettings:
        if self.kind != "scenes" and not self.root:
            raise ValueError(f"corpus.kind={self.kind} needs corpus.root, the place of the images")
        return self

    @model_validator(mode="after")
    def _names_are_unambiguous(self) -> CorpusSettings:
        try:
            mapper = TagMapper(self.classes, self.aliases)
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if mapper.lookup("background") is not None:
            raise ValueError("corpus.classes holds 'background', which is id 0 already: drop it")
        return self


class NetworkSettings(Settings):
    """The one network: dilated backbone, four summed atrous branches, FCAN head (paper 4.1)."""

    backbone: str = "resnet101"
    """``resnet18|50|101``, ``vgg16``, ``efficientnet_lite0|1|2`` or ``timm:NAME``.
    Paper: resnet101."""
    weights: str = "imagenet"
    """``imagenet``: the registry's file for this backbone; ``random``: none; else a path or https
    URL of a .safetensors or .pth state dict with the backbone's key names."""
    weights_sha256: str | None = None
    """Expected digest of a file named in ``weights``; required for a URL."""
    output_stride: Literal[8, 16] = 8
    """Image pixels per score-map pixel. Paper: 8."""
    atrous_rates: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (6, 12, 18, 24)
    """Dilation of the summed 3×3 branches, in score-map pixels. Paper: 6, 12, 18, 24."""
    fcan_start: Literal["normal", "identity"] = "normal"
    """The FCAN head's first weights: N(0, 0.01), or class c looking at score channel c alone.
    Paper: normal."""
    max_side: PositiveInt | None = 1024
    """Longest side in pixels an image has at scale 1; larger images are scaled down to it (VOC
    images never are). Masks always come back at the image's own size."""


class DetectorSettings(Settings):
    """The card of a salient object detector: any ONNX file, image in, map out (paper 4.2)."""

    model: str = "u2netp"
    """A registry name, a path or an https URL of an ONNX file."""
    sha256: str | None = None
    """Expected digest of the file; required for a URL."""
    height: PositiveInt = 320
    """Input height in pixels."""
    width: PositiveInt = 320
    """Input width in pixels."""
    scale: Literal["max", "255"] = "max"
    """Pixels are divided by the image's maximum (``max``) or by 255 before mean and std."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean taken off after scaling."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """RGB standard deviation divided by."""
    output: int = 0
    """Which output of the model is the map."""
    activation: Literal["none", "sigmoid"] = "none"
    """``sigmoid`` for models that put out logits."""


class SaliencySettings(Settings):
    """Hierarchical saliency (paper 4.2)."""

    detector: DetectorSettings = DetectorSettings()
    thresholds: tuple[Unit, ...] = (0.7, 0.8)
    """Erasing threshold after each pass but the last; passes = thresholds + 1. Paper: 0.7, 0.8."""

    @property
    def passes(self) -> int:
        """Number of detector passes, and of maps S_1 … S_K kept for an image."""
        return len(self.thresholds) + 1


class CRFSettings(Settings):
    """Dense CRF (Krähenbühl and Koltun 2011), with the values of DeepLab (method of the paper)."""

    iterations: PositiveInt = 10
    gaussian_sxy: PositiveFloat = 3.0
    """Standard deviation of the smoothness kernel, in pixels."""
    gaussian_compat: Annotated[float, Field(ge=0)] = 3.0
    bilateral_sxy: PositiveFloat = 49.0
    """Standard deviation of the appearance kernel, in pixels."""
    bilateral_srgb: PositiveFloat = 5.0
    """Standard deviation of the appearance kernel, in grey levels 0–255."""
    bilateral_compat: Annotated[float, Field(ge=0)] = 4.0


class AttentionSettings(Settings):
    """Multi-scale attention (paper 4.1)."""

    source: Literal["fcan", "scores"] = "fcan"
    """``fcan``: the attention volume V; ``scores``: softmax of the score map f, for an FCAN trained
    with ``saliency_weight``. Paper: fcan."""
    scales: Scales = (1.0, 0.75, 0.5)
    """Paper: 1, 0.75, 0.5."""
    flip: bool = False
    """Also look at the mirrored image. Paper: false."""
    fuse: Literal["max", "mean"] = "max"
    """How the views are fused, pixel-wise. Paper: max."""
    relu: bool = False
    """Clip negative attention to 0 before views are fused. Paper: false."""


class DCSPSettings(Settings):
    """Algorithm 1 of the paper, with the options that its successors found useful."""

    attention: AttentionSettings = AttentionSettings()
    saliency_pass: PositiveInt = 3
    """Which S_k is used. Paper: 3."""
    gamma_low: Unit = 0.4
    """Harmonic mean below this is background. Paper: 0.4."""
    gamma_high: Unit = 0.4
    """Harmonic mean from ``gamma_low`` up to this is ignored (255). Paper: 0.4, no ignored band."""
    crf: bool = False
    """Refine the cue with the dense CRF. Paper: false."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> DCSPSettings:
        if self.gamma_low > self.gamma_high:
            raise ValueError(
                f"gamma_low ({self.gamma_low}) must not exceed gamma_high ({self.gamma_high})"
            )
        return self


class AdaptSettings(Settings):
    """Cues from the jointly trained network itself (paper 4.3)."""

    rounds: Annotated[int, Field(ge=0)] = 1
    """How often cues are mined anew and training restarted. Paper: 1."""
    scales: Scales = (1.0, 0.75, 0.5)
    flip: bool = False
    crf: bool = False
    """Refine the cue with the dense CRF. Paper: false."""


class CueSettings(Settings):
    """Which cues the segmentation network learns from."""

    method: Literal["dcsp"] = "dcsp"
    """The cue method of phase 0."""
    dcsp: DCSPSettings = DCSPSettings()
    compare: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], DCSPSettings] = Field(
        default_factory=dict
    )
    """Name → further settings of phase 0 to mine and measure beside the cues that are trained on;
    names that start with ``phase`` and a digit are the run's own."""
    adapt: AdaptSettings = AdaptSettings()
    crf: CRFSettings = CRFSettings()
    """The dense CRF, where a cue method uses it."""

    @field_validator("compare")
    @classmethod
    def _names_are_free(cls, value: dict[str, DCSPSettings]) -> dict[str, DCSPSettings]:
        taken = [name for name in value if name.startswith("phase") and name[5:6].isdigit()]
        if taken:
            raise ValueError(f"the name {taken[0]!r} is the run's own: call it something else")
        return value


class TrainSettings(Settings):
    """One training stage (paper 5.1; method 1.7)."""

    steps: PositiveInt = 10_000
    """Optimiser steps."""
    batch: PositiveInt = 10
    """Images a step, over all workers. Paper: 10."""
    crop: Annotated[int, Field(ge=32)] = 321
    """Side of the square crop in pixels. Paper: 321."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.5)
    """Range of the random scale. Paper: 0.5–1.5."""
    flip: bool = True
    """Mirror half of the images. Paper: true."""
    jitter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Strength of random brightness, contrast and saturation. Paper: 0."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: PositiveFloat = 1e-3
    """Of the backbone's weights. Paper: 1e-3."""
    head_multiplier: PositiveFloat = 10.0
    """Learning rate of new weights over the backbone's. Paper: 10."""
    bias_multiplier: PositiveFloat = 20.0
    """Learning rate of new biases over the backbone's. Paper: 20."""
    momentum: Unit = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    power: Annotated[float, Field(ge=0.0)] = 0.9
    """Of the poly schedule lr·(1 − step/steps)^power. Paper: 0.9."""
    train_backbone: bool = True
    """False: only the new layers learn, as in the authors' released FCAN stage."""
    saliency_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the joint saliency loss, between the tagged classes' summed softmax probability and
    S. Paper: 0."""
    saliency_loss: Literal["squared", "cross_entropy"] = "squared"
    """Its form; cross-entropy also asks for background where there is no saliency."""
    classification_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of ℓ_c. Paper: 1."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decay of an exponential moving average of the weights, which is then what is kept.
    Paper: 0."""
    checkpoint_every: PositiveInt = 500
    """Steps between resumable checkpoints."""

    @field_validator("scale")
    @classmethod
    def _scale_is_a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"scale is (smallest, largest), got {value}")
        return value


class FCANSettings(TrainSettings):
    """Training of the attention network on ℓ_c (paper 4.1)."""

    steps: PositiveInt = 30_000
    """Optimiser steps. Paper: 30,000."""


class PrecisionSettings(Settings):
    """Arithmetic of training and inference."""

    autocast: Literal["bf16", "fp32"] = "bf16"
    """bf16 is about twice as fast on CPUs that have it and on every recent GPU."""
    channels_last: bool = True


class PredictSettings(Settings):
    """Inference (method 1.8)."""

    scales: Scales = (1.0, 0.75, 0.5)
    """Raw scores of these scales are fused by max. Paper: 1, 0.75, 0.5."""
    flip: bool = False
    crf: bool = True
    """Refine predictions with the dense CRF; the labels without it are kept as well."""
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    """Splits to label."""
    crf_settings: CRFSettings = CRFSettings()


class ReportSettings(Settings):
    """The HTML report."""

    gallery: Annotated[int, Field(ge=0, le=200)] = 24
    """Images shown."""


class ClusterSettings(Settings):
    """How work is spread; never part of a fingerprint, since it does not change any result."""

    address: str | None = None
    """Ray address; left out: ``RAY_ADDRESS``, else a cluster of this machine alone."""
    actors: PositiveInt | None = None
    """Model actors of a mining or prediction stage; left out: from the cluster's CPUs and GPUs."""
    train_workers: PositiveInt | None = None
    """Training processes; left out: one per GPU, or one on a cluster without GPUs."""
    train_cpus: PositiveFloat | None = None
    """CPUs (threads) of a training process; left out: from the cluster."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts of a training stage after lost workers."""
    stall_minutes: PositiveFloat = 20.0
    """A stage without progress for this long fails."""


class RunConfig(Settings):
    """Everything one run needs to know."""

    store: Annotated[str, Field(min_length=1)]
    """Local path or ``s3://bucket/prefix`` where every table of every run lives."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Prefix of the run id: letters, digits, dots, hyphens and underscores."""
    seed: Annotated[int, Field(ge=0)] = 0
    corpus: CorpusSettings
    network: NetworkSettings = NetworkSettings()
    saliency: SaliencySettings = SaliencySettings()
    fcan: FCANSettings = FCANSettings()
    """Training of the attention network on ℓ_c. Paper: 30,000 steps."""
    cues: CueSettings = CueSettings()
    joint: TrainSettings = TrainSettings()
    """Joint training on ℓ_c + ℓ_s, once per phase. Paper: 10,000 steps."""
    predict: PredictSettings = PredictSettings()
    precision: PrecisionSettings = PrecisionSettings()
    report: ReportSettings = ReportSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _saliency_pass_exists(self) -> RunConfig:
        wanted = {"cues.dcsp": self.cues.dcsp}
        wanted |= {f"cues.compare.{name}": other for name, other in self.cues.compare.items()}
        for key, settings in wanted.items():
            if settings.saliency_pass > self.saliency.passes:
                raise ValueError(
                    f"{key}.saliency_pass is {settings.saliency_pass} but saliency.thresholds give "
                    f"only {self.saliency.passes} passes: add a threshold or use a lower pass"
                )
        return self
