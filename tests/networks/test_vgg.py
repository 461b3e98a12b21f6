"""VGG-16 loads torchvision's features and grows DeepLab's fc6 and fc7."""

import pytest
import torch
from torch import Tensor

from dcsp.errors import WeightsError
from dcsp.networks.vgg import VGG16


def torchvision_file() -> dict[str, Tensor]:
    """Keys and shapes of torchvision's vgg16 file, its classifier shortened."""
    convolutions = {0: 3, 2: 64, 5: 64, 7: 128, 10: 128, 12: 256, 14: 256}
    convolutions |= dict.fromkeys((17,), 256) | dict.fromkeys((19, 21, 24, 26, 28), 512)
    outputs = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
    state = {}
    for index, inputs in convolutions.items():
        width = outputs.get(index, 512)
        state[f"features.{index}.weight"] = torch.randn(width, inputs, 3, 3) * 0.01
        state[f"features.{index}.bias"] = torch.randn(width)
    return state | {"classifier.0.weight": torch.zeros(8, 8), "classifier.6.bias": torch.zeros(8)}


def test_torchvisions_features_load_and_its_classifier_is_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = VGG16(8)
    state = torchvision_file()
    network.load_pretrained(state, "vgg16.pth")
    assert "vgg16.pth has no fc6 and fc7" in caplog.text
    own = network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items() if k.startswith("features."))
    assert sum(own[k].numel() for k in own if k.startswith("features.")) == 14_714_688
    assert network.new_layers == ("fc6", "fc7")


def test_fc6_and_fc7_are_not_new_when_the_file_has_them(caplog: pytest.LogCaptureFixture) -> None:
    network = VGG16(8)
    filled = {k: v for k, v in VGG16(8).state_dict().items() if k.startswith("fc")}
    network.load_pretrained(torchvision_file() | filled, "deeplab.pth")
    assert network.new_layers == () and not caplog.text
    assert torch.equal(network.fc6.weight, filled["fc6.weight"])


def test_a_file_with_half_of_fc6_is_refused() -> None:
    filled = {"fc6.weight": VGG16(8).fc6.weight}
    with pytest.raises(WeightsError, match=r"fc6\.bias"):
        VGG16(8).load_pretrained(torchvision_file() | filled, "half.pth")


@pytest.mark.parametrize(("output_stride", "cells"), [(8, 41), (16, 21)])
def test_321_pixels_give_the_papers_cells(output_stride: int, cells: int) -> None:
    with torch.device("meta"):
        network = VGG16(output_stride)
        stages = network(torch.empty(1, 3, 321, 321))
    assert tuple(stage.shape[1] for stage in stages) == network.stage_channels
    assert [stage.shape[-1] for stage in stages] == [161, 81, 41, cells, cells]


def test_dropout_acts_in_training_alone() -> None:
    network = VGG16(16).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image)[-1], network(image)[-1])
        network.train()
        assert not torch.equal(network(image)[-1], network(image)[-1])
