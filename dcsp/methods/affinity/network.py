"""AffinityNet: features whose distance says whether two cells belong together (method 2).

Ahn and Kwak 2018: three stages of the backbone, each through a 1×1 convolution, joined by another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.networks.base import Backbone
from dcsp.networks.model import Model, draw_new_weights

STAGES = (2, 3, 4)
"""Of the backbone: strides 8, 16 and 32 where it is not dilated."""
WIDTHS = (64, 128, 256)
"""Channels that each of them is reduced to (Ahn and Kwak)."""
STRIDE = 8
"""Image pixels per cell of the features."""


class AffinityNetwork(Model):
    """Backbone, a 1×1 convolution on each of three stages, one on their concatenation.

    Args:
        backbone: The feature extractor.
        backbone_name: Its name in :func:`dcsp.networks.backbones.build_backbone`.
    """

    kind: ClassVar[str] = "affinity"

    def __init__(self, backbone: Backbone, backbone_name: str) -> None:
        super().__init__(backbone, backbone_name)
        self.reduce = nn.ModuleList(
            nn.Conv2d(backbone.stage_channels[stage], width, 1, bias=False)
            for stage, width in zip(STAGES, WIDTHS, strict=True)
        )
        self.join = nn.Conv2d(sum(WIDTHS), sum(WIDTHS), 1, bias=False)
        draw_new_weights([backbone.get_submodule(name) for name in backbone.new_layers])
        for layer in (*self.reduce, self.join):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, K, h, w) of RGB images with grey levels 0–255, float32, cell side 8 pixels.

        A side of n pixels gives ceil(n / 8) cells.
        """
        stages = self.stages(image_BCHW)
        size = stages[STAGES[0]].shape[-2:]
        reduced = [
            _fit(F.elu(layer(stages[stage])), size)
            for stage, layer in zip(STAGES, self.reduce, strict=True)
        ]
        joined: Tensor = F.elu(self.join(torch.cat(reduced, dim=1)))
        return joined.float()

    def own_modules(self) -> Sequence[nn.Module]:
        """The 1×1 convolutions."""
        return [*self.reduce, self.join]


def _fit(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps on another grid whose outermost cells lie on the same pixels."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
