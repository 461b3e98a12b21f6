"""What every network that learns here is: a backbone, new layers on it, and a card to store it by.

Dimension letters of this package: B images, C channels or classes, H×W pixels, h×w feature cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dcsp.config import NetworkSettings, TrainSettings
from dcsp.networks.backbones import TIMM_PREFIX, build_backbone
from dcsp.networks.base import Backbone

_NEW_WEIGHT_STD = 0.01  # paper 5.1


class Model(nn.Module):
    """A backbone with layers of its own, which takes RGB images with grey levels 0–255.

    BatchNorm keeps its statistics in training mode too; scale and shift learn with the backbone.

    Args:
        backbone: The feature extractor.
        backbone_name: Its name in :func:`dcsp.networks.backbones.build_backbone`.
    """

    kind: ClassVar[str]
    """Name on the card of a stored model."""

    def __init__(self, backbone: Backbone, backbone_name: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.backbone_name = backbone_name
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", _per_channel(backbone.mean), persistent=False)
        self.register_buffer("_std", _per_channel(backbone.std), persistent=False)

    @property
    def grid_stride(self) -> int:
        """Image pixels per cell of the deepest stage: images have a size that these fit exactly."""
        return self.backbone.output_stride

    @property
    def output_stride(self) -> int:
        """Image pixels per cell of what the network puts out."""
        return self.grid_stride

    def stages(self, image_BCHW: Tensor) -> list[Tensor]:
        """The backbone's five stages for RGB images, uint8 or float; normalised in here."""
        return list(self.backbone(self._normalised(image_BCHW)))

    def convolutions(self, image_BCHW: Tensor) -> list[Tensor]:
        """As :meth:`stages`, by layers that the backbone's weights file fills alone."""
        return self.backbone.convolutions(self._normalised(image_BCHW))

    def _normalised(self, image_BCHW: Tensor) -> Tensor:
        image = image_BCHW if image_BCHW.is_floating_point() else image_BCHW.float()
        return (image - self._mean) / self._std

    def train(self, mode: bool = True) -> Model:
        """Training mode for all but BatchNorm, whose statistics stay frozen (paper 5.1)."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Self:
        """The network that :meth:`card` describes, with random weights."""
        return cls(backbone_of(card), card["backbone"])

    def own_modules(self) -> Sequence[nn.Module]:
        """The layers beside the backbone.

        Raises:
            NotImplementedError: Called on the base class.
        """
        raise NotImplementedError(f"{type(self).__name__} does not name its layers")

    def new_modules(self) -> list[nn.Module]:
        """The modules that no weights file has filled: they learn at the head's rate."""
        filled_later = map(self.backbone.get_submodule, self.backbone.new_layers)
        return [*self.own_modules(), *filled_later]

    def card(self) -> dict[str, Any]:
        """What :meth:`from_card` builds the model from again, as JSON values."""
        return {
            "kind": self.kind,
            "backbone": self.backbone_name,
            "output_stride": self.grid_stride,
            "new_layers": list(self.backbone.new_layers),
        }


def start_backbone(settings: NetworkSettings, weights_file: Path | None) -> Backbone:
    """The backbone a training starts from.

    Args:
        settings: Backbone and output stride.
        weights_file: The backbone's weights, as from
            :func:`dcsp.networks.weights.backbone_weights`; None: random, or timm's own where the
            settings ask for them.

    Raises:
        ConfigError: The backbone is unknown or not installed.
        WeightsError: The file does not fit the backbone or cannot be read.
    """
    fetched_by_timm = settings.backbone.startswith(TIMM_PREFIX) and settings.weights == "imagenet"
    return build_backbone(
        settings.backbone,
        settings.output_stride,
        weights_file,
        pretrained=fetched_by_timm,
    )


def backbone_of(card: Mapping[str, Any]) -> Backbone:
    """The backbone of the network that a card describes, with random weights."""
    backbone = build_backbone(card["backbone"], card["output_stride"])
    backbone.new_layers = tuple(card["new_layers"])
    return backbone


def draw_new_weights(modules: Sequence[nn.Module]) -> None:
    """Weights of convolutions and linear layers from N(0, 0.01), biases 0 (paper 5.1).

    They come from torch's global generator: seed it for a reproducible model.
    """
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, 0.0, _NEW_WEIGHT_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def parameter_groups(model: Model, settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimiser (paper 5.1): backbone, new weights, new biases.

    Learning rates are 1, ``head_multiplier`` and ``bias_multiplier`` times ``learning_rate``;
    weight decay is the same everywhere. Without ``train_backbone`` the backbone's parameters,
    new layers excepted, stop requiring gradients and have no group.

    Returns:
        Dicts with ``name``, ``params``, ``lr`` and ``weight_decay``.
    """
    new = [parameter for module in model.new_modules() for parameter in module.parameters()]
    new_ids = {id(parameter) for parameter in new}
    old = [parameter for parameter in model.parameters() if id(parameter) not in new_ids]
    for parameter in old:
        parameter.requires_grad_(settings.train_backbone)
    groups = {
        "backbone": (old if settings.train_backbone else [], 1.0),
        "new_weights": ([p for p in new if p.ndim > 1], settings.head_multiplier),
        "new_biases": ([p for p in new if p.ndim == 1], settings.bias_multiplier),
    }
    return [
        {
            "name": name,
            "params": params,
            "lr": settings.learning_rate * multiplier,
            "weight_decay": settings.weight_decay,
        }
        for name, (params, multiplier) in groups.items()
        if params
    ]


def _per_channel(rgb: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1)
