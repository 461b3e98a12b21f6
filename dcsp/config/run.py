"""A whole run: prediction, report, cluster, and all blocks together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from dcsp.config.base import (
    Fuse,
    Place,
    PositiveFloat,
    PositiveInt,
    Scales,
    Settings,
    Unit,
    Url,
    listed,
)
from dcsp.config.corpus import CorpusSettings
from dcsp.config.cues import METHOD_NAMES, CueSettings
from dcsp.config.networks import CRFSettings, NetworkSettings, PrecisionSettings
from dcsp.config.publishing import GateSettings, NotifySettings, Policy
from dcsp.config.saliency import SaliencySettings
from dcsp.config.selftags import SelfTagSettings
from dcsp.config.training import FCANSettings, TrainSettings


class PredictSettings(Settings):
    """Inference (method 1.8)."""

    scales: Scales = (1.0, 0.75, 0.5)
    """Scales of the image that the network looks at. Paper: 1, 0.75, 0.5."""
    flip: bool = False
    """Also look at the mirrored image. Paper: false."""
    fuse: Fuse = "max"
    """Of the views, pixel-wise: ``max`` of raw scores, or ``mean`` of probabilities. Paper: max."""
    crf: bool = True
    """Refine predictions with the dense CRF; the labels without it are kept as well."""
    splits: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train", "val")
    """Splits to label."""
    tags: Literal["restrict", "ignore"] = "restrict"
    """``restrict``: an image with given tags is labelled among background and its tags, and with
    ``cues.method=dcsp`` or ``cues.adapt.dcsp`` by Algorithm 1, with saliency; ``ignore``: by the
    network alone, as the paper labels images that it measures. The network's own labels are kept
    beside in any case."""
    crf_settings: CRFSettings = CRFSettings()

    def refines(self, split: str) -> bool:
        """Whether the network's own labels of tagged images get the CRF: not where nobody asks."""
        return self.crf and (self.tags == "ignore" or split == "val")


class ReportSettings(Settings):
    """The HTML report."""

    gallery: Annotated[int, Field(ge=0, le=200)] = 24
    """Images that the report shows at full size, with every map and label, of the up to 5,000 that
    it has; 0: it shows no image at all."""


class CorrectionSettings(Settings):
    """Label maps that people have corrected; a path alone stands for it."""

    place: Place
    """A folder of PNG files, or a file: JSON of COCO or Label Studio, XML of CVAT."""
    digest: str | None = None
    """Of the content, by which a run means what lay there when it was planned; runs write it down.
    Left out: whatever lies there."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"place": value} if isinstance(value, str) else value


class ClusterSettings(Settings):
    """How work is spread; never part of a fingerprint, since it does not change any result."""

    executor: Literal["ray", "here"] = "ray"
    """``ray``: a cluster, of this machine alone where none is named; ``here``: this process, one
    thing after the other, without Ray; of the settings here ``use_gpu``, the lease's and
    ``total_minutes`` count."""
    address: Url | None = None
    """Ray address; left out: ``RAY_ADDRESS``, else a cluster of this machine alone."""
    actors: PositiveInt | None = None
    """Model actors of a mining or prediction stage; left out: from the cluster's CPUs and GPUs."""
    use_gpu: bool | None = None
    """``true``: refuse a cluster without GPUs, where a run would take weeks; ``false``: leave GPUs
    alone; left out: use those that there are."""
    train_workers: PositiveInt | None = None
    """Training processes; left out: one per GPU, or one on a cluster without GPUs."""
    train_cpus: PositiveFloat | None = None
    """CPUs (threads) of a training process; left out: from the cluster."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts of a training stage after lost workers."""
    stall_minutes: PositiveFloat = 20.0
    """A stage without progress for this long fails."""
    lease_wait_minutes: Annotated[float, Field(ge=0.0)] = 0.0
    """How long a job waits for another one on the same store to end, before it gives up. For jobs
    that a scheduler starts again by itself: the lease of one that was killed on another machine
    expires after six minutes."""
    total_minutes: PositiveFloat | None = None
    """The stage in which a job comes to be older than this fails; what it has done is kept, and
    submitting it again goes on. For jobs on a schedule, which must not meet the next one; left
    out: any time."""


class RunConfig(Settings):
    """Everything one run needs to know."""

    store: Annotated[Place, Field(min_length=1)]
    """Local path or ``s3://bucket/prefix`` where every table of every run lives."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Prefix of the run id: letters, digits, dots, hyphens and underscores."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of all that is drawn: first weights, order of the images, augmentation, generated scenes."""
    truth: Literal["evaluate", "train"] = "evaluate"
    """What ground-truth masks are for. ``train``: networks learn from them in the place of cues, to
    know what the same network reaches with them; refused by every job but `dcsp compare`."""
    retrain: Literal["every", "never"] | Unit = "every"
    """When networks are trained anew on a corpus that has changed: at ``every`` change, ``never``,
    or when the training images that came since are more than this share of those that the networks
    of the published run learned from. New images are mined and labelled in any case. A changed
    setting of a network or a training always trains anew."""
    max_recompute_share: Unit = 0.5
    """A run stops before it computes where a changed setting, or another version of dcsp, makes
    more than this share of the run before it anew; that run is of the same name and had 500 images
    at least. New images never count. 1: go on in any case."""
    corpus: CorpusSettings
    corrections: Annotated[tuple[CorrectionSettings, ...], BeforeValidator(listed)] = ()
    """Label maps that people have corrected, one place or a list: folders of PNG files, JSON of
    COCO or Label Studio, XML of CVAT. They are what is published, and half of them are learned from
    in the place of cues; of two corrections of an image, the one of the later place counts."""
    network: NetworkSettings = NetworkSettings()
    saliency: SaliencySettings = SaliencySettings()
    fcan: FCANSettings = FCANSettings()
    """Training of the attention network on ℓ_c. Paper: 30,000 steps."""
    selftags: SelfTagSettings = SelfTagSettings()
    """Tags of the FCAN's own for training images without any."""
    cues: CueSettings = CueSettings()
    joint: TrainSettings = TrainSettings()
    """Joint training on ℓ_c + ℓ_s, once per phase. Paper: 10,000 steps."""
    predict: PredictSettings = PredictSettings()
    precision: PrecisionSettings = PrecisionSettings()
    report: ReportSettings = ReportSettings()
    publish: Policy = "gated"
    """``gated``: a run that has ended is published if it keeps to all ``gates``; else the one
    before stays, and the job ends with exit code 3. ``always``: gates are told of and stop nothing.
    ``never``: ``dcsp publish`` alone publishes."""
    gates: GateSettings = GateSettings()
    notify: Annotated[NotifySettings, Field(exclude=True)] = NotifySettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _saliency_pass_exists(self) -> RunConfig:
        wanted = {"cues.dcsp": self.cues.dcsp, "cues.mcof.seeds": self.cues.mcof.seeds}
        if self.cues.adapt.dcsp:
            wanted["cues.adapt.dcsp"] = self.cues.adapt.dcsp
        wanted |= {f"cues.compare.{name}": other for name, other in self.cues.compare.items()}
        given, more = "saliency.thresholds", "a threshold"
        if self.saliency.maps:
            given, more = "saliency.maps", "a folder"
        for key, settings in wanted.items():
            if settings.saliency_pass > self.saliency.passes:
                raise ValueError(
                    f"{key}.saliency_pass is {settings.saliency_pass} but {given} give only "
                    f"{self.saliency.passes} passes: add {more} or use a lower pass"
                )
        return self

    @model_validator(mode="after")
    def _self_tags_come_from_a_head_that_learned(self) -> RunConfig:
        asks_head = self.selftags.use != "never" and self.selftags.source == "fcan"
        if asks_head and self.fcan.classification_weight == 0:
            raise ValueError(
                "selftags.source=fcan asks the classification head, which learns nothing with "
                "fcan.classification_weight=0: set selftags.source=probabilities, or that weight"
            )
        return self


def add_method(name: str, settings: type[Settings]) -> None:
    """Add a cue method of another package to what ``cues`` may hold.

    Args:
        name: What ``cues.method`` calls it, and its block in ``cues``.
        settings: The block, all of whose settings have defaults.
    """
    CueSettings.model_fields[name] = FieldInfo(annotation=settings, default=settings())
    CueSettings.model_rebuild(force=True)
    RunConfig.model_fields["cues"].default = CueSettings()
    RunConfig.model_rebuild(force=True)
    METHOD_NAMES.append(name)
