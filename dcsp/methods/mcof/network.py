"""RegionNet: which class a superpixel shows (method 3).

Wang et al. 2018 (MCOF): the backbone's features, averaged over the mask of each superpixel, through
two fully connected layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.methods.mcof.pooling import pool_regions
from dcsp.networks.base import Backbone
from dcsp.networks.model import Model, backbone_of, draw_new_weights

WIDTH = 256
"""Channels of the hidden layer."""


class RegionScores(NamedTuple):
    """What the network puts out.

    Attributes:
        logits: (R, C+1) of all superpixels of the batch, image after image, channel 0 the
            background.
        counts: Superpixels of each image.
    """

    logits: Tensor
    counts: list[int]


class RegionNetwork(Model):
    """Backbone, then two fully connected layers on the pooled features of each region.

    Args:
        backbone: The feature extractor; its deepest stage is used.
        backbone_name: Its name in :func:`dcsp.networks.backbones.build_backbone`.
        classes: Names of classes 1…C.
    """

    kind: ClassVar[str] = "region"

    def __init__(self, backbone: Backbone, backbone_name: str, classes: Sequence[str]) -> None:
        super().__init__(backbone, backbone_name)
        self.classes = tuple(classes)
        self.hidden = nn.Conv2d(backbone.stage_channels[-1], WIDTH, 1)
        self.score = nn.Linear(WIDTH, len(self.classes) + 1)
        draw_new_weights([backbone.get_submodule(name) for name in backbone.new_layers])
        nn.init.kaiming_normal_(self.hidden.weight)
        draw_new_weights([self.score])

    def forward(self, image_BCHW: Tensor, regions_BHW: Tensor) -> RegionScores:
        """Scores of the superpixels of RGB images with grey levels 0–255.

        Args:
            image_BCHW: uint8 or float.
            regions_BHW: Integer ids of superpixels, from 0 in each image.
        """
        # Pooling is linear: the first layer is cheaper on cells, before it.
        features: Tensor = self.hidden(self.stages(image_BCHW)[-1])
        counts = (regions_BHW.flatten(1).amax(dim=1) + 1).tolist()
        pooled = pool_regions(features.float(), regions_BHW.long(), counts)
        return RegionScores(self.score(F.relu(pooled)).float(), counts)

    def own_modules(self) -> Sequence[nn.Module]:
        """The fully connected layers."""
        return [self.hidden, self.score]

    def card(self) -> dict[str, Any]:
        """See :meth:`dcsp.networks.model.Model.card`."""
        return super().card() | {"classes": list(self.classes)}

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Self:
        """The network that a card describes, with random weights."""
        return cls(backbone_of(card), card["backbone"], card["classes"])
