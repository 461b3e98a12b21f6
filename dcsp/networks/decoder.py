"""Score maps at stride 4: coarse scores sharpened by what the shallow stages see of edges.

As in DeepLabV3+ (Chen et al. 2018), for few images: the coarse scores pass unchanged, and a small
head on shallow features and on these scores learns what to add. It starts by adding nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.errors import ConfigError
from dcsp.networks.base import Backbone
from dcsp.networks.running_norm import RunningNorm

STRIDE = 4
"""Image pixels per cell of the sharpened score map."""
_NARROW, _WIDE = 24, 64


class Decoder(nn.Module):
    """Coarse scores and two shallow stages to scores at stride 4.

    Args:
        channels: Of the two stages.
        scores: Score channels, K = C + 1.
    """

    def __init__(self, channels: Sequence[int], scores: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RunningNorm(c) for c in channels)
        self.reduce = nn.ModuleList(nn.Conv2d(c, _NARROW, 1) for c in channels)
        self.mix = nn.Conv2d(2 * _NARROW + scores, _WIDE, 3, padding=1)
        self.last = nn.Conv2d(_WIDE, scores, 3, padding=1)

    def draw(self) -> None:
        """First weights, from torch's global generator: Kaiming's, and 0 for what is added."""
        for layer in (*self.reduce, self.mix):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.last.weight)

    def forward(self, score_map_BKhw: Tensor, skips: list[Tensor], stride: int) -> Tensor:
        """Sharper scores, (B, K, ceil(H / 4), ceil(W / 4)) for an image of H×W pixels.

        Args:
            score_map_BKhw: Coarse scores.
            skips: Features at strides 4 and 8.
            stride: Image pixels per cell of the coarse scores.
        """
        size = skips[0].shape[-2:]
        coarse = _finer(score_map_BKhw, stride // STRIDE, size)
        features = [
            F.relu(reduce(norm(skip)))
            for skip, norm, reduce in zip(skips, self.norms, self.reduce, strict=True)
        ]
        features[1] = _finer(features[1], 2, size)
        opinions = coarse.detach().softmax(dim=1)
        mixed = F.relu(self.mix(torch.cat([*features, opinions.to(features[0].dtype)], dim=1)))
        sharper: Tensor = coarse + self.last(mixed).float()
        return sharper


def skip_stages(backbone: Backbone) -> tuple[int, int]:
    """Numbers, from 0, of the stages that a decoder looks at: the first of strides 4 and 8.

    Raises:
        ConfigError: The backbone has no stages of strides 4 and 8, as plain transformers.
    """
    strides = backbone.stage_strides
    if not {STRIDE, 2 * STRIDE} <= set(strides):
        raise ConfigError(
            f"network.decoder=true needs features at strides 4 and 8, and this backbone has them "
            f"at {', '.join(map(str, strides))}: leave decoder out."
        )
    return strides.index(STRIDE), strides.index(2 * STRIDE)


def _finer(maps_BNhw: Tensor, factor: int, size: torch.Size) -> Tensor:
    """Bilinearly, cell i coming to lie on cell ``factor`` × i; beyond the last cell it goes on."""
    height, width = maps_BNhw.shape[-2:]
    inner = ((height - 1) * factor + 1, (width - 1) * factor + 1)
    finer = F.interpolate(maps_BNhw, size=inner, mode="bilinear", align_corners=True)
    below, right = max(0, size[0] - inner[0]), max(0, size[1] - inner[1])
    return F.pad(finer, (0, right, 0, below), mode="replicate")[..., : size[0], : size[1]]
