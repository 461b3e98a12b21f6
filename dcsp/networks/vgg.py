"""VGG-16 (Simonyan and Zisserman 2015) as DeepLab-LargeFOV (Chen et al. 2015; paper 5.1).

``features.*`` has torchvision's key names, so its ``vgg16`` file loads; the fully connected layers
of that file have other shapes and are ignored. As in DeepLab, pooling is 3×3 (321 pixels give 41
cells at stride 8), pool5 does not stride, and fc6 is a 3×3 atrous convolution to 1024 channels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dcsp.networks.base import Backbone

_LOG = logging.getLogger(__name__)
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
_STRIDES_AFTER = (2, 4, 8, 16, 16)  # of pool1 … pool5 at output stride 16
_FC_CHANNELS = 1024
_FC6_REACH = 96  # image pixels between the taps of fc6: dilation 12 at stride 8
_DROPOUT = 0.5
NAMES = ("vgg16",)
"""The names :class:`VGG16` knows."""


class VGG16(Backbone):
    """VGG-16 with atrous fc6 and fc7; stages are pool1 … pool4 and fc7.

    fc6 and fc7 are new layers unless the weights file has them (keys ``fc6.*``, ``fc7.*``).
    They drop half of their outputs while training.

    Args:
        output_stride: 8 (pool4 does not stride, conv5 has dilation 2) or 16.
    """

    classifier_prefixes = ("classifier.",)
    stage_channels = (64, 128, 256, 512, _FC_CHANNELS)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.new_layers = ("fc6", "fc7")
        self.features = nn.Sequential()
        self._pools: list[int] = []
        channels, reached, dilation = 3, 1, 1
        for (width, convolutions), stride_after in zip(_BLOCKS, _STRIDES_AFTER, strict=True):
            for _ in range(convolutions):
                self.features.append(
                    nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
                )
                self.features.append(nn.ReLU(inplace=True))
                channels = width
            stride = 2 if reached < min(stride_after, output_stride) else 1
            dilation = stride_after // min(stride_after, output_stride)
            reached *= stride
            self._pools.append(len(self.features))
            self.features.append(nn.MaxPool2d(3, stride=stride, padding=1))
        rate = _FC6_REACH // output_stride
        self.fc6 = nn.Conv2d(channels, _FC_CHANNELS, 3, padding=rate, dilation=rate)
        self.fc7 = nn.Conv2d(_FC_CHANNELS, _FC_CHANNELS, 1)
        self._dropout = nn.Dropout(_DROPOUT)
        _initialise(self.features)

    def load_pretrained(self, state: Mapping[str, Tensor], source: str) -> None:
        """See :class:`Backbone`; what is left to chance is logged."""
        super().load_pretrained(state, source)
        if self.new_layers:
            _LOG.warning(
                "%s has no %s, which DeepLab's own VGG-16 has (the classifier's, subsampled): they "
                "start from random numbers and need more training.",
                source,
                " and ".join(self.new_layers),
            )

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Features of float images normalised with the ImageNet mean and std, deepest last."""
        *stages, pool5 = self.convolutions(image_BCHW)
        fc6 = self._dropout(torch.relu(self.fc6(pool5)))
        return [*stages, self._dropout(torch.relu(self.fc7(fc6)))]

    def convolutions(self, image_BCHW: Tensor) -> list[Tensor]:
        """pool1 … pool5: an ImageNet file fills neither fc6 nor fc7."""
        stages = []
        x = image_BCHW
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._pools:
                stages.append(x)
        return stages


def _initialise(features: nn.Sequential) -> None:
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
