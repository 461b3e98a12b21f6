"""The backbones by name: our own modules, and models of timm where it is there."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.errors import ConfigError, WeightsError
from dcsp.networks import efficientnet, resnet, vgg
from dcsp.networks.base import IMAGENET_MEAN, IMAGENET_STD, RGB, Backbone
from dcsp.networks.weights import read_state_dict, state_digest

NAMES = (*resnet.NAMES, *vgg.NAMES, *efficientnet.NAMES)
"""Backbones of our own; ``timm:NAME`` goes on top."""
TIMM_PREFIX = "timm:"


def build_backbone(
    name: str, output_stride: int, weights_file: Path | None = None, pretrained: bool = False
) -> Backbone:
    """Build a backbone, and load its weights where a file is given.

    Args:
        name: One of :data:`NAMES` or ``timm:NAME``.
        output_stride: 8 or 16.
        weights_file: A ``.safetensors`` or ``.pth`` state dict; None leaves random weights,
            drawn from torch's global generator.
        pretrained: For ``timm:NAME`` without a file: let timm fetch its own weights.

    Raises:
        ConfigError: The name is unknown, timm is not installed, or the model has no such stride.
        WeightsError: The file does not fit the backbone or cannot be read.
    """
    if output_stride not in (8, 16):
        raise ConfigError(f"network.output_stride={output_stride} is not supported: use 8 or 16.")
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(name.removeprefix(TIMM_PREFIX), output_stride, weights_file, pretrained)
    backbone = _own_backbone(name, output_stride)
    if weights_file is not None:
        backbone.load_pretrained(read_state_dict(weights_file), str(weights_file))
    return backbone


def _own_backbone(name: str, output_stride: int) -> Backbone:
    if name in resnet.NAMES:
        return resnet.ResNet(name, output_stride)
    if name in vgg.NAMES:
        return vgg.VGG16(output_stride)
    if name in efficientnet.NAMES:
        return efficientnet.EfficientNetLite(name, output_stride)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ConfigError(
        f"network.backbone={name!r} is unknown{hint}: use one of {', '.join(NAMES)} or timm:NAME."
    )


class TimmBackbone(Backbone):
    """A model of timm; the number of stages is the model's own.

    Convolutional models are dilated. Plain vision transformers (those of DINOv2, the image towers
    of CLIP) have one grid for all stages: images are enlarged or reduced so that a patch is a cell.

    Args:
        name: timm's name of the model.
        output_stride: 8 or 16.
        weights_file: A state dict with timm's key names, or None.
        pretrained: Let timm fetch its weights when there is no file.

    Raises:
        ConfigError: timm is missing, or the model does not offer feature stages at this stride.
        WeightsError: timm cannot load the weights.
    """

    def __init__(
        self, name: str, output_stride: int, weights_file: Path | None, pretrained: bool
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        options: dict[str, Any] = {"pretrained": pretrained or weights_file is not None}
        if weights_file is not None:
            options["pretrained_cfg_overlay"] = {"state_dict": read_state_dict(weights_file)}
        self.model, self._patch = _create_timm_model(name, output_stride, options)
        if pretrained and weights_file is None:
            self.fetched = state_digest(self.model.state_dict())
        self.stage_channels = tuple(self.model.feature_info.channels())
        reached = output_stride if self._patch else self.stage_strides[-1]
        if reached != output_stride:
            raise ConfigError(
                f"network.backbone=timm:{name} ends at stride {reached}, not {output_stride}: "
                "choose another model or network.output_stride."
            )
        card = getattr(self.model, "pretrained_cfg", None) or {}
        self.mean = _grey_levels(card.get("mean"), IMAGENET_MEAN)
        self.std = _grey_levels(card.get("std"), IMAGENET_STD)

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Image pixels per cell of each stage."""
        if self._patch:
            return (self.output_stride,) * len(self.stage_channels)
        return tuple(self.model.feature_info.reduction())

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of float images normalised with the model's own mean and std, deepest last."""
        if self._patch:
            image_BCHW = _a_patch_a_cell(image_BCHW, self.output_stride, self._patch)
        return list(self.model(image_BCHW))


def _a_patch_a_cell(image_BCHW: Tensor, stride: int, patch: int) -> Tensor:
    """The image so that patch i is centred on pixel i × stride: padded by half a cell, resized."""
    height, width = image_BCHW.shape[-2:]
    cells = (-(-height // stride), -(-width // stride))
    below, right = (n * stride - side for n, side in zip(cells, (height, width), strict=True))
    before = stride // 2
    framed = F.pad(image_BCHW, (before, right, before, below), mode="replicate")
    framed = framed[..., : cells[0] * stride, : cells[1] * stride]
    size = (cells[0] * patch, cells[1] * patch)
    if framed.shape[-2:] == size:
        return framed
    return F.interpolate(framed, size=size, mode="bilinear", align_corners=False, antialias=True)


def _create_timm_model(name: str, output_stride: int, options: dict[str, Any]) -> tuple[Any, int]:
    """The model, and the side of its patches where it is a plain transformer, else 0."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            f"network.backbone=timm:{name} needs timm ({error}): run 'pip install timm'."
        ) from error
    try:
        try:
            model: nn.Module = timm.create_model(
                name, features_only=True, output_stride=output_stride, **options
            )
            return model, 0
        except TypeError:  # transformers know no output stride
            model = timm.create_model(name, features_only=True, dynamic_img_size=True, **options)
            return model, int(model.feature_info.reduction()[-1])  # type: ignore[union-attr,operator]
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        kind = WeightsError if options["pretrained"] else ConfigError
        raise kind(
            f"timm cannot build {name!r} with feature stages at stride {output_stride} ({error}): "
            "choose a convolutional model or a plain transformer that timm.list_models() names, "
            "and weights made for it."
        ) from error


def _grey_levels(unit: Any, default: RGB) -> RGB:
    if unit is None:
        return default
    red, green, blue = (255.0 * float(value) for value in unit)
    return red, green, blue
