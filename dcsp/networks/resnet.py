"""ResNet-18/50/101 (He et al. 2016) as dilated backbones, with torchvision's state-dict key names.

Dilation replaces the strides of layer4 (output stride 16) and layer3 (output stride 8) such that
the dilated features, sampled at the lost stride, are the undilated ones (paper 5.1): a 3×3
convolution that lost its stride keeps the dilation of the layer before, all later ones double it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcsp.networks.base import Backbone
from dcsp.networks.folding import Unit, conv_norm

_WIDTHS = (64, 128, 256, 512)
_PROJECTION: Unit = ("downsample.0", "downsample.1", "none")


class ResNet(Backbone):
    """A ResNet without its classifier: stem (stride 2), then layer1 … layer4.

    Args:
        name: One of :data:`NAMES`.
        output_stride: 8 or 16.
    """

    classifier_prefixes = ("fc.",)
    units: tuple[Unit, ...] = (("conv1", "bn1", "relu"),)

    def __init__(self, name: str, output_stride: int) -> None:
        super().__init__()
        block, depths = _VARIANTS[name]
        self.output_stride = output_stride
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers, channels, reached, dilation = [], 64, 4, 1
        for index, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
            stride, before = (1 if index == 0 else 2), dilation
            if stride == 2 and reached == output_stride:
                stride, dilation = 1, dilation * 2
            reached *= stride
            layers.append(_layer(block, channels, width, depth, stride, before, dilation))
            channels = width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.stage_channels = (64, *(width * block.expansion for width in _WIDTHS))
        _initialise(self)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of float images normalised with the ImageNet mean and std, deepest last."""
        stages = [conv_norm(image_BCHW, self.conv1, self.bn1, "relu")]
        x = self.maxpool(stages[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        return stages


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions around a residual."""

    expansion = 1
    units: tuple[Unit, ...] = (("conv1", "bn1", "relu"), ("conv2", "bn2", "none"))

    def __init__(
        self, inputs: int, width: int, stride: int, before: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride, before)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride) if project else None
        if project:
            self.units = (*self.units, _PROJECTION)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = conv_norm(x_BCHW, self.conv1, self.bn1, "relu")
        x = conv_norm(x, self.conv2, self.bn2)
        residual = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return torch.relu_(x + residual)


class _Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand around a residual; the 3×3 carries the stride."""

    expansion = 4
    units: tuple[Unit, ...] = (
        ("conv1", "bn1", "relu"),
        ("conv2", "bn2", "relu"),
        ("conv3", "bn3", "none"),
    )

    def __init__(
        self, inputs: int, width: int, stride: int, before: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, before)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride) if project else None
        if project:
            self.units = (*self.units, _PROJECTION)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = conv_norm(x_BCHW, self.conv1, self.bn1, "relu")
        x = conv_norm(x, self.conv2, self.bn2, "relu")
        x = conv_norm(x, self.conv3, self.bn3)
        residual = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return torch.relu_(x + residual)


_Block = type[_BasicBlock] | type[_Bottleneck]
_VARIANTS: dict[str, tuple[_Block, tuple[int, int, int, int]]] = {
    "resnet18": (_BasicBlock, (2, 2, 2, 2)),
    "resnet50": (_Bottleneck, (3, 4, 6, 3)),
    "resnet101": (_Bottleneck, (3, 4, 23, 3)),
}
NAMES = tuple(_VARIANTS)
"""The names :class:`ResNet` knows."""


def _layer(
    block: _Block, inputs: int, width: int, depth: int, stride: int, before: int, dilation: int
) -> nn.Sequential:
    outputs = width * block.expansion
    first = block(inputs, width, stride, before, dilation, stride != 1 or inputs != outputs)
    rest = [block(outputs, width, 1, dilation, dilation, False) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


def _conv3x3(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


_BRANCH_START = 0.1


def _initialise(module: nn.Module) -> None:
    """Random weights under which a hundred layers of frozen BatchNorm stay finite.

    The last scale of every residual branch starts small: the network starts near its shortcuts.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, _BasicBlock):
            nn.init.constant_(layer.bn2.weight, _BRANCH_START)
        elif isinstance(layer, _Bottleneck):
            nn.init.constant_(layer.bn3.weight, _BRANCH_START)
