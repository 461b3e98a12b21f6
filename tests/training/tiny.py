"""A network small enough to train in milliseconds, and batches for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcsp.config import PrecisionSettings, TrainSettings
from dcsp.networks.base import Backbone
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.training.loop import Trainer
from dcsp.training.objective import ScoreObjective
from dcsp.training.stream import Rank
from dcsp.training.terms import Term

CLASSES = ("cat", "dog", "cow")
CROP = 32


class TinyBackbone(Backbone):
    """Two convolutions with BatchNorm, at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stage_channels = (4, 4, 8, 8, 8)
        self.output_stride = 8
        self.conv1 = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        shallow = self.bn1(self.conv1(image_BCHW)).relu()
        deep = self.conv2(shallow).relu()
        return [shallow, shallow, deep, deep, deep]


def tiny_network(seed: int = 0) -> SegmentationNetwork:
    torch.manual_seed(seed)
    return SegmentationNetwork(TinyBackbone(), "tiny", CLASSES, (1, 2))


def trainer_of(
    network: SegmentationNetwork,
    settings: TrainSettings,
    block: str,
    precision: PrecisionSettings,
    rank: int = 0,
    world: int = 1,
) -> Trainer:
    """A trainer of the paper's FCAN or joint stage."""
    objective = ScoreObjective(settings, cues=block == "joint", world=world)
    return Trainer(network, settings, objective, precision, block, "cpu", Rank(rank, world))


def mean_of(term: Term) -> Tensor:
    """The mean on one rank; 0 where nothing counts."""
    return term.total / term.number.clamp(min=1.0)


def tiny_batch(size: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    cue = draw(len(CLASSES) + 1, size, CROP, CROP)
    cue[draw(2, size, CROP, CROP) == 1] = 255
    cue[0] = 255  # ranks differ in how many pixels have a label
    tags = draw(2, size, len(CLASSES)).float()
    tags[:, 0] = 1.0
    return {
        "image": draw(256, size, CROP, CROP, 3).to(torch.uint8),
        "tags": tags,
        "cue": cue.to(torch.uint8),
        "saliency": draw(256, size, CROP, CROP).to(torch.uint8),
        "valid": torch.tensor([[0, 0, CROP, CROP]] * size, dtype=torch.int32),
    }
