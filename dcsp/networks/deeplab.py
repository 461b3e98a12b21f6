"""The one network: DeepLabV2's summed atrous branches with the FCAN head on top (paper 4.1, 5.1).

The score map f serves segmentation, the attention volume V (a 1×1 convolution of the raw scores)
serves classification by tags; both share every weight below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from dcsp.config import NetworkSettings
from dcsp.networks.base import Backbone
from dcsp.networks.decoder import STRIDE, Decoder, skip_stages
from dcsp.networks.model import Model, backbone_of, draw_new_weights, start_backbone
from dcsp.networks.running_norm import RunningNorm


class Scores(NamedTuple):
    """What the network puts out, raw: no ReLU, no softmax.

    Attributes:
        score_map: f, B×(C+1)×h×w logits, channel 0 the background.
        attention: V, B×C×h×w, channel c−1 for class c.
    """

    score_map: Tensor
    attention: Tensor


class SegmentationNetwork(Model):
    """Backbone, summed atrous branches to C+1 score channels, FCAN head 1×1 to C channels.

    Args:
        backbone: The feature extractor; its deepest stage is used.
        backbone_name: Its name in :func:`dcsp.networks.backbones.build_backbone`.
        classes: Names of classes 1…C.
        atrous_rates: Dilation of each branch, in score-map pixels.
        max_side: Longest side in pixels an image should have at scale 1, for callers; None: any.
        standardize: Bring the deepest features to mean 0 and variance 1 before the branches.
        branch_kernel: Side of the branches' kernels; the paper's are 3.
        decoder: Sharpen the scores to stride 4.
    """

    kind: ClassVar[str] = "segmentation"

    def __init__(
        self,
        backbone: Backbone,
        backbone_name: str,
        classes: Sequence[str],
        atrous_rates: Sequence[int],
        max_side: int | None = None,
        standardize: bool = False,
        branch_kernel: int = 3,
        decoder: bool = False,
    ) -> None:
        super().__init__(backbone, backbone_name)
        self.classes = tuple(classes)
        self.atrous_rates = tuple(atrous_rates)
        self.max_side = max_side
        features, scores = backbone.stage_channels[-1], len(self.classes) + 1
        self.norm = RunningNorm(features) if standardize else nn.Identity()
        self.branch_kernel, reach = branch_kernel, branch_kernel // 2
        self.aspp = nn.ModuleList(
            nn.Conv2d(features, scores, branch_kernel, padding=rate * reach, dilation=rate)
            for rate in atrous_rates
        )
        self.fcan = nn.Conv2d(scores, len(self.classes), 1)
        self._skips = skip_stages(backbone) if decoder else ()
        skipped = [backbone.stage_channels[stage] for stage in self._skips]
        self.decoder = Decoder(skipped, scores) if decoder else None
        draw_new_weights(self.new_modules())
        if self.decoder:
            self.decoder.draw()
        if standardize:
            # A draw from N(0, 0.01) over so many inputs of variance 1 would be noise to unlearn.
            for branch in self.aspp:
                nn.init.zeros_(branch.get_parameter("weight"))

    def forward(self, image_BCHW: Tensor) -> Scores:
        """Scores of RGB images with grey levels 0–255, uint8 or float; normalised in here.

        A side of n pixels gives ceil(n / output_stride) cells; the attention volume, which looks at
        scores before the decoder, ceil(n / grid_stride). Scores are float32, under autocast too.
        """
        stages = self.stages(image_BCHW)
        deepest_BChw = self.norm(stages[-1])
        branches = [branch(deepest_BChw).float() for branch in self.aspp]
        score_map = torch.stack(branches).sum(0)
        attention = self.fcan(score_map).float()
        if self.decoder:
            score_map = self.decoder(score_map, [stages[i] for i in self._skips], self.grid_stride)
        return Scores(score_map, attention)

    @property
    def output_stride(self) -> int:
        """Image pixels per cell of the score map."""
        return STRIDE if self.decoder else self.grid_stride

    def own_modules(self) -> Sequence[nn.Module]:
        """The branches, the FCAN head and the decoder."""
        return [*self.aspp, self.fcan, *([self.decoder] if self.decoder else [])]

    def card(self) -> dict[str, Any]:
        """See :meth:`dcsp.networks.model.Model.card`."""
        return super().card() | {
            "atrous_rates": list(self.atrous_rates),
            "classes": list(self.classes),
            "max_side": self.max_side,
            "standardize": isinstance(self.norm, RunningNorm),
            "branch_kernel": self.branch_kernel,
            "decoder": self.decoder is not None,
        }

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Self:
        """The network that a card describes, with random weights."""
        return cls(
            backbone_of(card),
            card["backbone"],
            card["classes"],
            card["atrous_rates"],
            card["max_side"],
            card.get("standardize", False),
            card.get("branch_kernel", 3),
            card.get("decoder", False),
        )


def build_network(
    settings: NetworkSettings, classes: Sequence[str], weights_file: Path | None
) -> SegmentationNetwork:
    """Build the network on a backbone with these weights; new layers are drawn from N(0, 0.01).

    All random weights come from torch's global generator: seed it for a reproducible network.

    Args:
        settings: Backbone, strides and rates.
        classes: Names of classes 1…C.
        weights_file: The backbone's weights, as from
            :func:`dcsp.networks.weights.backbone_weights`; None: random, or timm's
            own where the settings ask for them.

    Raises:
        ConfigError: The backbone is unknown or not installed.
        WeightsError: The file does not fit the backbone or cannot be read.
    """
    backbone = start_backbone(settings, weights_file)
    network = SegmentationNetwork(
        backbone,
        settings.backbone,
        classes,
        settings.atrous_rates,
        settings.max_side,
        settings.standardize,
        settings.branch_kernel,
        settings.decoder,
    )
    if settings.fcan_start == "identity":
        _start_with_identity(network.fcan)
    return network


@torch.no_grad()
def _start_with_identity(fcan: nn.Conv2d) -> None:
    """Let the map of class c be score channel c, plus the noise it was drawn with."""
    channels = torch.arange(fcan.out_channels)
    fcan.weight[channels, channels + 1] += 1.0
