"""Loading pretrained weights names what does not fit."""

import pytest
import torch
from torch import Tensor

from dcsp.errors import WeightsError
from dcsp.networks.base import Backbone
from dcsp.networks.resnet import ResNet


def resnet_file() -> dict[str, Tensor]:
    return ResNet("resnet18", 32).state_dict() | {"fc.weight": torch.zeros(1000, 512)}


def test_all_weights_are_taken_over() -> None:
    state, network = resnet_file(), ResNet("resnet18", 8)
    network.load_pretrained(state, "resnet18.pth")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_batch_counters_may_be_missing() -> None:
    state = {k: v for k, v in resnet_file().items() if not k.endswith("num_batches_tracked")}
    ResNet("resnet18", 8).load_pretrained(state, "old.pth")


def test_missing_keys_are_named_up_to_three() -> None:
    state = {k: v for k, v in resnet_file().items() if not k.startswith("layer4.1.")}
    with pytest.raises(WeightsError, match=r"odd\.pth.*layer4\.1\.conv1\.weight.*and \d+ more"):
        ResNet("resnet18", 8).load_pretrained(state, "odd.pth")


def test_unknown_keys_are_named() -> None:
    with pytest.raises(WeightsError, match=r"no missing keys; unknown: stem\.weight"):
        ResNet("resnet18", 8).load_pretrained(
            resnet_file() | {"stem.weight": torch.zeros(1)}, "odd.pth"
        )


def test_wrong_shapes_are_named_with_both_shapes() -> None:
    with pytest.raises(WeightsError, match=r"conv1\.weight is \(1, 2\), not \(64, 3, 7, 7\)"):
        ResNet("resnet18", 8).load_pretrained(
            resnet_file() | {"conv1.weight": torch.zeros(1, 2)}, "odd.pth"
        )


def test_the_base_class_has_no_stages() -> None:
    with pytest.raises(NotImplementedError, match="Backbone"):
        Backbone()(torch.zeros(1))
