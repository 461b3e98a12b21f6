"""EfficientNet-lite is the reference package's network, dilated."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_model_params
from torch import nn

from dcsp.errors import WeightsError
from dcsp.networks.backbones import build_backbone
from dcsp.networks.efficientnet import NAMES, EfficientNetLite
from dcsp.networks.weights import read_state_dict


def reference(name: str, height: int, width: int) -> EfficientNet:
    """The reference network, whose padding is fixed for one image size, with lively statistics."""
    torch.manual_seed(0)
    blocks, settings = get_model_params(
        name.replace("_", "-"), {"image_size": (height, width), "num_classes": 3}
    )
    network = EfficientNet(blocks, settings).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(96, 64), (75, 98)])
def test_features_equal_the_reference_package(name: str, size: tuple[int, int]) -> None:
    theirs = reference(name, *size)
    ours = EfficientNetLite(name, output_stride=32).eval()
    ours.load_pretrained(theirs.state_dict(), "the reference")
    image = torch.randn(1, 3, *size)
    with torch.inference_mode():
        expected = theirs.extract_features(image)
        stages = ours(image)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(stages[-1], expected, atol=1e-4, rtol=0)
    assert tuple(stage.shape[1] for stage in stages) == ours.stage_channels
    assert [stage.shape[-1] for stage in stages] == [-(-size[1] // s) for s in (2, 4, 8, 16, 32)]


def test_the_package_indexs_weights_load_and_match_the_reference(
    fetched: Callable[[str], Path],
) -> None:
    path = fetched("efficientnet_lite0")
    theirs = reference("efficientnet_lite0", 64, 64)
    state = read_state_dict(path)
    theirs.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith("_fc")}, strict=False
    )
    ours = EfficientNetLite("efficientnet_lite0", 32).eval()
    ours.load_pretrained(state, str(path))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(image)[-1], theirs.extract_features(image), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_features_sampled_at_the_lost_stride_are_the_undilated_ones(
    output_stride: int,
) -> None:
    theirs = reference("efficientnet_lite0", 65, 65).state_dict()
    plain = EfficientNetLite("efficientnet_lite0", 32).eval()
    dilated = EfficientNetLite("efficientnet_lite0", output_stride).eval()
    plain.load_pretrained(theirs, "reference")
    dilated.load_pretrained(theirs, "reference")
    image = torch.randn(1, 3, 65, 65)  # odd at every layer, so that no cell is shifted
    step = 32 // output_stride
    with torch.inference_mode():
        torch.testing.assert_close(
            dilated(image)[-1][..., ::step, ::step], plain(image)[-1], atol=1e-4, rtol=1e-4
        )


def test_weights_of_another_variant_are_refused_by_name() -> None:
    state = reference("efficientnet_lite2", 64, 64).state_dict()
    with pytest.raises(WeightsError, match="_blocks"):
        build_backbone("efficientnet_lite0", 16).load_pretrained(state, "lite2.pth")


def test_inputs_are_normalised_as_the_weights_expect() -> None:
    backbone = build_backbone("efficientnet_lite1", 8)
    assert (backbone.mean, backbone.std) == ((127.0,) * 3, (128.0,) * 3)
