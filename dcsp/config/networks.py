"""The network, its arithmetic, and the dense CRF."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from dcsp.config.base import PositiveFloat, PositiveInt, Settings, Url, whole


class NetworkSettings(Settings):
    """The one network: dilated backbone, four summed atrous branches, FCAN head (paper 4.1)."""

    later = frozenset({"decoder"})

    backbone: str = "resnet101"
    """``resnet18|50|101``, ``vgg16``, ``efficientnet_lite0|1|2`` or ``timm:NAME``.
    Paper: resnet101."""
    weights: Url = "imagenet"
    """``imagenet``: the registry's file for this backbone; ``random``: none; else a path or https
    URL of a .safetensors or .pth state dict with the backbone's key names."""
    weights_sha256: str | None = None
    """Expected digest of a file named in ``weights``; required for a URL."""
    output_stride: Annotated[Literal[8, 16], BeforeValidator(whole)] = 8
    """Image pixels per score-map pixel. Paper: 8."""
    atrous_rates: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (6, 12, 18, 24)
    """Dilation of the summed branches, in score-map pixels. Paper: 6, 12, 18, 24."""
    branch_kernel: Annotated[Literal[1, 3], BeforeValidator(whole)] = 3
    """Side of the branches' kernels; 1: a linear classifier of each cell alone, which few images
    are enough for and whose attention stays where it was found. Paper: 3."""
    decoder: bool = False
    """Sharpen score maps to stride 4 by what the shallow stages see of edges. Paper: false."""
    standardize: bool = False
    """Bring each channel of the deepest features to mean 0 and variance 1 before the branches:
    they tell rare classes apart after few images, and want a smaller learning rate.
    Paper: false."""
    fcan_start: Literal["normal", "identity"] = "normal"
    """The FCAN head's first weights: N(0, 0.01), or class c looking at score channel c alone.
    Paper: normal."""
    max_side: PositiveInt | None = 1024
    """Longest side in pixels an image has at scale 1; larger images are scaled down to it (VOC
    images never are). Masks always come back at the image's own size."""

    @model_validator(mode="after")
    def _one_cell_has_no_dilation(self) -> NetworkSettings:
        if self.branch_kernel == 1 and self.atrous_rates != (1,):
            raise ValueError(
                "branch_kernel=1 looks at one cell, at whatever distance atrous_rates puts its "
                "neighbours: set atrous_rates=[1]"
            )
        return self


class PrecisionSettings(Settings):
    """Arithmetic of training and inference."""

    autocast: Literal["bf16", "fp32"] = "bf16"
    """``bf16``: in bfloat16 on GPUs and CPUs that have it, about twice as fast, and in float32 on
    others, such as most laptops. ``fp32``: the same on every machine."""
    channels_last: bool = True
    """Keep the channels of a pixel beside one another in memory, which most convolutions want."""


class CRFSettings(Settings):
    """Dense CRF (Krähenbühl and Koltun 2011), with the values of DeepLab (method 1.8)."""

    iterations: PositiveInt = 10
    """Of mean-field inference. Paper: 10."""
    gaussian_sxy: PositiveFloat = 3.0
    """Standard deviation of the smoothness kernel, in pixels."""
    gaussian_compat: Annotated[float, Field(ge=0)] = 3.0
    """Weight of the smoothness kernel."""
    bilateral_sxy: PositiveFloat = 49.0
    """Standard deviation of the appearance kernel, in pixels."""
    bilateral_srgb: PositiveFloat = 5.0
    """Standard deviation of the appearance kernel, in grey levels 0–255."""
    bilateral_compat: Annotated[float, Field(ge=0)] = 4.0
    """Weight of the appearance kernel."""
