"""Training stages (paper 5.1; method 1.7)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from dcsp.config.base import PositiveFloat, PositiveInt, Settings, Unit


class TrainSettings(Settings):
    """One training stage (paper 5.1; method 1.7)."""

    later = frozenset({"epochs"})

    steps: PositiveInt = 10_000
    """Optimiser steps."""
    epochs: PositiveFloat | None = None
    """Most times that each image is seen: a small corpus ends after fewer steps than ``steps``.
    Left out: no limit."""
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
    """What makes a step of gradients. Paper: sgd."""
    learning_rate: PositiveFloat = 1e-3
    """Of the backbone's weights. Paper: 1e-3."""
    head_multiplier: PositiveFloat = 10.0
    """Learning rate of new weights over the backbone's. Paper: 10."""
    bias_multiplier: PositiveFloat = 20.0
    """Learning rate of new biases over the backbone's. Paper: 20."""
    momentum: Unit = 0.9
    """Of SGD; AdamW has none. Paper: 0.9."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    """Of all parameters. Paper: 5e-4."""
    power: Annotated[float, Field(ge=0.0)] = 0.9
    """Of the poly schedule lr·(1 − step/steps)^power. Paper: 0.9."""
    train_backbone: bool = True
    """False: only the new layers learn, as in the authors' released FCAN stage."""
    saliency_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the joint saliency loss, between the tagged classes' summed softmax probability and
    S. Paper: 0."""
    saliency_loss: Literal["squared", "cross_entropy"] = "squared"
    """Its form; cross-entropy also asks for background where there is no saliency."""
    prior_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the loss of the built-in priors, which pools class probabilities inside and outside
    of a foreground mask (Saleh et al. 2016). Paper: 0."""
    prior_sharpness: PositiveFloat = 5.0
    """r of its log-sum-exp pooling: near 0 the mean, from 20 on the maximum."""
    classification_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of ℓ_c. Paper: 1."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decay of an exponential moving average of the weights, which is then what is kept.
    Paper: 0."""
    checkpoint_every: PositiveInt = 500
    """Steps between resumable checkpoints."""

    @property
    def needs_saliency(self) -> bool:
        """Whether one of its losses looks at saliency."""
        return self.saliency_weight > 0 or self.prior_weight > 0

    def for_images(self, images: int) -> Self:
        """These settings for a corpus of so many images, with the limit of epochs in ``steps``."""
        if self.epochs is None:
            return self
        most = max(1, round(self.epochs * images / self.batch))
        return self.model_copy(update={"steps": min(self.steps, most), "epochs": None})

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
