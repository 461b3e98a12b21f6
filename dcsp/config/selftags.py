"""Self-tags: what the attention network says that untagged training images show."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcsp.config.base import PositiveInt, Scales, Settings, Source


class SelfTagSettings(Settings):
    """Self-tags of untagged training images; see docs/corpus.md."""

    use: Literal["never", "relabel", "train"] = "never"
    """``never``: untagged images get no cues. ``relabel``: they get cues of the last phase by their
    self-tags, and no network learns from them. ``train``: they get cues of every phase, and joint
    trainings learn from those as well. Paper: never."""
    precision: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Share of right self-tags that is asked of every class, as measured on tagged images."""
    min_support: PositiveInt = 20
    """Tagged images that must reach a threshold for its precision to count; a class without such a
    threshold is never a self-tag."""
    calibrate: Literal["train", "val"] | None = None
    """Split whose tagged images thresholds are calibrated on; left out: ``val`` where the corpus
    has it, else ``train``, which the network learned from, so that precision comes out too high."""
    source: Source = "fcan"
    """``fcan``: the classification head's image probability, trained by ℓ_c; ``probabilities``: the
    highest softmax of the score map, for an FCAN trained with ``saliency_weight`` alone."""
    scales: Scales = (1.0,)
    """Views of an image whose maps are averaged before that."""
    flip: bool = False
    """Also look at the mirrored image."""
