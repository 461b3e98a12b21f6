"""ResNets have torchvision's parameters under torchvision's names, and dilate without a loss."""

import pytest
import torch
from torch import nn

from dcsp.networks.resnet import NAMES, ResNet

# torchvision's published parameter counts, less the classifier's
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        network = ResNet(name, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_key_names_are_torchvisions() -> None:
    with torch.device("meta"):
        keys = set(ResNet("resnet50", 8).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var",
        "layer2.3.conv3.weight",
        "layer3.5.bn2.num_batches_tracked",
        "layer4.2.bn3.bias",
    } <= keys
    assert not any(key.startswith("fc.") for key in keys)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilated_features_sampled_at_the_lost_stride_are_the_undilated_ones(
    name: str, output_stride: int
) -> None:
    torch.manual_seed(0)
    plain, dilated = ResNet(name, 32).eval(), ResNet(name, output_stride).eval()
    dilated.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 65, 65)
    step = 32 // output_stride
    with torch.inference_mode():
        expected, sampled = plain(image)[-1], dilated(image)[-1][..., ::step, ::step]
    torch.testing.assert_close(sampled / expected.std(), expected / expected.std())


def test_stages_have_the_declared_channels_and_strides() -> None:
    network = ResNet("resnet18", 8).eval()
    with torch.inference_mode():
        stages = network(torch.zeros(1, 3, 64, 96))
    assert tuple(stage.shape[1] for stage in stages) == network.stage_channels
    assert [stage.shape[-1] for stage in stages] == [48, 24, 12, 12, 12]


def test_321_pixels_give_the_papers_41_cells() -> None:
    with torch.device("meta"):
        assert ResNet("resnet101", 8)(torch.empty(1, 3, 321, 321))[-1].shape == (1, 2048, 41, 41)


def test_the_deepest_layers_are_dilated_2_and_4_at_stride_8() -> None:
    network = ResNet("resnet101", 8)
    last = {
        name: network.get_submodule(f"{name}.1.conv2") for name in ("layer2", "layer3", "layer4")
    }
    assert all(isinstance(conv, nn.Conv2d) for conv in last.values())
    assert [conv.dilation for conv in last.values()] == [(1, 1), (2, 2), (4, 4)]
