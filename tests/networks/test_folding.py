"""A folded network says what it said, in fewer operations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dcsp.config import NetworkSettings
from dcsp.networks import folding
from dcsp.networks.backbones import build_backbone
from dcsp.networks.base import Backbone
from dcsp.networks.deeplab import build_network
from dcsp.networks.folding import FoldedConv2d, fold

WITH_NORMS = ["efficientnet_lite0", "resnet18", "resnet50"]


def trained(name: str, stride: int = 16) -> Backbone:
    """A backbone whose norms have statistics, as after training; in eval mode."""
    torch.manual_seed(0)
    backbone = build_backbone(name, stride)
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return backbone.eval()


@pytest.fixture(params=[True, False], ids=["one operation", "torch"])
def one_operation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With oneDNN's operation, and without it, as on a GPU."""
    if not request.param:
        monkeypatch.setattr(folding, "_one_dnn_knows", lambda dtype: False)


@pytest.mark.usefixtures("one_operation")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", WITH_NORMS)
@torch.inference_mode()
def test_every_stage_is_the_same(name: str, stride: int, layout: torch.memory_format) -> None:
    backbone = trained(name, stride)
    folded = copy.deepcopy(backbone)
    fold(folded, torch.float32)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert not any(isinstance(layer, nn.Conv2d) for layer in folded.modules())
    image = torch.randn(2, 3, 70, 65).contiguous(memory_format=layout)
    for found, expected in zip(folded(image), backbone(image), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.inference_mode()
def test_in_bfloat16_it_is_as_near_to_float32_as_autocast_is() -> None:
    backbone = trained("efficientnet_lite0")
    folded = copy.deepcopy(backbone)
    fold(folded, torch.bfloat16)
    image = torch.randn(1, 3, 129, 129)
    expected = backbone(image)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        autocast = backbone(image)[-1].float()
        found = folded(image)[-1]
    assert found.dtype == torch.bfloat16
    errors = [(maps.float() - expected).abs().mean() for maps in (found, autocast)]
    assert errors[0] <= 1.5 * errors[1]


@torch.inference_mode()
def test_norms_without_scale_and_convolutions_with_a_bias_are_folded() -> None:
    conv, norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False).eval()
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    image = torch.randn(1, 3, 8, 9)
    found = FoldedConv2d(conv, norm, "none", torch.float32)(image)
    assert torch.allclose(found, norm(conv(image)), atol=1e-5)


@torch.inference_mode()
def test_a_backbone_without_norms_and_the_layers_on_top_stay() -> None:
    settings = NetworkSettings(backbone="vgg16", weights="random", output_stride=16)
    network = build_network(settings, ["cat"], None).eval()
    before = [type(layer) for layer in network.modules()]
    fold(network, torch.float32)
    assert [type(layer) for layer in network.modules()] == before
