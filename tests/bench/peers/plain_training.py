"""A training loop as one writes it first: float32, NCHW, torch's own layers and losses."""

from __future__ import annotations

import copy
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from dcsp.config import TrainSettings
from dcsp.networks.deeplab import SegmentationNetwork


class PlainTrainer:
    """The joint step on a copy of a network whose convolutions are all torch's own."""

    def __init__(self, network: SegmentationNetwork, settings: TrainSettings) -> None:
        self.network = plain_copy(network).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def step(self, batch: dict[str, NDArray[Any]]) -> float:
        """One step of ℓ_c + ℓ_s; returns the loss."""
        image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float().contiguous()
        tags = torch.from_numpy(batch["tags"])
        scores = self.network(image)
        logits = scores.attention.mean(dim=(2, 3))
        cue = torch.from_numpy(batch["cue"])[:, None].float()
        labels = F.interpolate(cue, size=scores.score_map.shape[2:], mode="nearest")[:, 0].long()
        loss = F.binary_cross_entropy_with_logits(logits, tags)
        loss = loss + F.cross_entropy(scores.score_map, labels, ignore_index=255)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())


def plain_copy(network: SegmentationNetwork) -> SegmentationNetwork:
    """A copy with the same weights, in which torch's own class does every convolution that it can.

    What stays are the strided convolutions, whose padding TensorFlow defined.
    """
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (1, 1):
                setattr(module, name, _plain_conv(child))
    return copied


def _plain_conv(conv: nn.Conv2d) -> nn.Conv2d:
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        padding=reach // 2,
        dilation=conv.dilation[0],
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    plain.load_state_dict(conv.state_dict())
    return plain
