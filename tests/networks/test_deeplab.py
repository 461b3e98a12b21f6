"""The DeepLabV2 + FCAN network: its arithmetic, what learns at which rate, and its storage."""

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcsp.config import NetworkSettings, TrainSettings
from dcsp.errors import WeightsError
from dcsp.networks.checkpoint import model_from_bytes, model_to_bytes
from dcsp.networks.deeplab import SegmentationNetwork, build_network
from dcsp.networks.model import parameter_groups

CLASSES = ("cat", "dog", "boat")


def network(backbone: str = "resnet18", output_stride: int = 8) -> SegmentationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(backbone=backbone, weights="random", output_stride=output_stride)
    return build_network(settings, CLASSES, None)


def image(height: int = 48, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def test_score_map_is_the_sum_of_atrous_branches_and_attention_a_1x1_convolution_of_it() -> None:
    net = network().eval()
    scores = net(image())
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    features = net.backbone((image().float() - mean) / std)[-1]
    expected = sum(
        F.conv2d(features, branch.weight, branch.bias, padding=rate, dilation=rate)
        for branch, rate in zip(net.aspp, (6, 12, 18, 24), strict=True)
    )
    torch.testing.assert_close(scores.score_map, expected)
    assert scores.score_map.shape == (2, 4, 6, 8)
    attention = torch.einsum("bkhw,ck->bchw", expected, net.fcan.weight[:, :, 0, 0])
    torch.testing.assert_close(scores.attention, attention, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_branches_of_one_cell_classify_each_cell_alone() -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="resnet18", weights="random", atrous_rates=(1,), branch_kernel=1
    )
    net = build_network(settings, CLASSES, None).eval()
    features = net.stages(image())[-1]
    (branch,) = net.aspp
    expected = torch.einsum("bchw,kc->bkhw", features, branch.weight[:, :, 0, 0])
    torch.testing.assert_close(net(image()).score_map, expected, rtol=1e-4, atol=1e-5)
    again = model_from_bytes(*model_to_bytes(net), SegmentationNetwork).eval()
    torch.testing.assert_close(again(image()).score_map, net(image()).score_map)


@torch.no_grad()
def test_bytes_and_floats_of_the_same_grey_levels_score_alike() -> None:
    net = network("efficientnet_lite0", 16).eval()
    torch.testing.assert_close(net(image()).score_map, net(image().float()).score_map)


@torch.no_grad()
def test_scores_are_float32_under_autocast() -> None:
    net = network().eval().to(memory_format=torch.channels_last)
    exact = net(image())
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(image())
    assert {score.dtype for score in rough} == {torch.float32}
    assert (rough.score_map - exact.score_map).abs().max() < 0.1 * exact.score_map.abs().max()


def test_new_layers_start_from_small_normal_weights_and_zero_biases() -> None:
    net = network("vgg16", 16)
    for module in net.new_modules():
        assert isinstance(module, nn.Conv2d)
        assert module.bias is not None and not module.bias.any()
        if module.weight.numel() > 1000:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert net.backbone.get_submodule("fc6") in net.new_modules()


def build(fcan_start: Any) -> SegmentationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="resnet18", weights="random", output_stride=16, fcan_start=fcan_start
    )
    return build_network(settings, CLASSES, None)


def test_a_head_that_starts_as_identity_gives_each_class_its_own_scores() -> None:
    drawn, identity = build("normal"), build("identity")
    change = identity.fcan.weight[:, :, 0, 0] - drawn.fcan.weight[:, :, 0, 0]
    shifted = torch.cat([torch.zeros(3, 1), torch.eye(3)], dim=1)  # background belongs to no class
    torch.testing.assert_close(change, shifted)
    assert drawn.fcan.weight.abs().max() < 0.06
    assert identity.fcan.bias is not None and not identity.fcan.bias.any()
    scores = identity(image())
    noise = F.conv2d(scores.score_map, drawn.fcan.weight)
    torch.testing.assert_close(scores.attention, scores.score_map[:, 1:] + noise)


def test_only_the_start_differs_and_the_head_learns_all_the_same() -> None:
    drawn, identity = build("normal"), build("identity")
    for key, value in drawn.state_dict().items():
        assert torch.equal(identity.state_dict()[key], value) == (key != "fcan.weight")
    assert identity.fcan.weight.requires_grad
    identity(image()).attention.mean((2, 3)).sum().backward()
    assert identity.fcan.weight.grad is not None and identity.fcan.weight.grad.any()
    assert identity.fcan in identity.new_modules()


def test_a_stored_head_is_the_trained_one_not_a_start() -> None:
    net = build("identity")
    with torch.no_grad():
        net.fcan.weight.fill_(0.25)
    assert (model_from_bytes(*model_to_bytes(net), SegmentationNetwork).fcan.weight == 0.25).all()


def test_standardised_features_feed_the_branches_and_their_statistics_are_stored() -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="resnet18", weights="random", output_stride=16, standardize=True
    )
    net = build_network(settings, CLASSES, None).train()
    seen: list[torch.Tensor] = []
    net.aspp[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    first = net(image()).score_map
    assert not first.any()  # no draw to unlearn
    assert seen[0].mean(dim=(0, 2, 3)).abs().max() < 1e-3
    torch.nn.init.normal_(net.aspp[0].get_parameter("weight"))
    loaded = model_from_bytes(*model_to_bytes(net), SegmentationNetwork)
    assert isinstance(loaded, SegmentationNetwork)
    torch.testing.assert_close(loaded(image()).score_map, net.eval()(image()).score_map)


def test_batch_statistics_stay_frozen_in_training() -> None:
    net = network().train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running_" in k}
    net(image())
    assert before
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    assert net.training and not net.backbone.get_submodule("bn1").training


@pytest.mark.parametrize("output", ["score_map", "attention"])
def test_gradients_of_both_outputs_reach_the_backbone(output: str) -> None:
    net = network().train()
    getattr(net(image()), output).square().sum().backward()
    for parameter in net.backbone.parameters():
        assert parameter.grad is not None and parameter.grad.any()


def test_rates_are_the_papers_and_decay_is_not_momentum() -> None:
    net = network()
    groups = parameter_groups(net, TrainSettings(learning_rate=1e-3, weight_decay=5e-4))
    assert [group["name"] for group in groups] == ["backbone", "new_weights", "new_biases"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-2, 2e-2])
    assert {group["weight_decay"] for group in groups} == {5e-4}
    assert all("momentum" not in group for group in groups)
    sizes = [sum(p.numel() for p in group["params"]) for group in groups]
    assert sizes[1:] == [4 * 512 * 4 * 9 + 4 * 3, 4 * 4 + 3]
    assert sum(sizes) == sum(parameter.numel() for parameter in net.parameters())


def test_a_frozen_backbone_neither_learns_nor_has_a_group() -> None:
    net = network("vgg16", 16)
    groups = parameter_groups(net, TrainSettings(train_backbone=False))
    assert [group["name"] for group in groups] == ["new_weights", "new_biases"]
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learning} == {"aspp", "fcan", "backbone"}
    assert {name for name in learning if name.startswith("backbone")} == {
        f"backbone.{layer}.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")
    }
    assert len(parameter_groups(net, TrainSettings())) == 3
    assert all(parameter.requires_grad for parameter in net.parameters())


@torch.no_grad()
def test_a_stored_network_scores_the_same() -> None:
    net = network("efficientnet_lite0", 16).eval().to(memory_format=torch.channels_last)
    loaded = model_from_bytes(*model_to_bytes(net), SegmentationNetwork)
    assert isinstance(loaded, SegmentationNetwork)
    assert torch.equal(
        loaded(image()).score_map, net.to(memory_format=torch.contiguous_format)(image()).score_map
    )
    assert not loaded.training
    assert loaded.card() == net.card()
    assert (loaded.classes, loaded.max_side, loaded.output_stride) == (CLASSES, 1024, 16)


def test_the_card_is_json_and_remembers_new_layers() -> None:
    net = network("vgg16", 16)
    net.backbone.new_layers = ()
    weights, card = model_to_bytes(net)
    assert (
        model_from_bytes(
            weights, json.loads(json.dumps(card)), SegmentationNetwork
        ).backbone.new_layers
        == ()
    )


def test_damaged_or_foreign_models_are_refused() -> None:
    weights, card = model_to_bytes(network())
    with pytest.raises(WeightsError, match="format 99"):
        model_from_bytes(weights, card | {"format": 99}, SegmentationNetwork)
    with pytest.raises(WeightsError, match="damaged"):
        model_from_bytes(weights[: len(weights) // 2], card, SegmentationNetwork)
    with pytest.raises(WeightsError, match="another card"):
        model_from_bytes(weights, card | {"classes": ["cat"]}, SegmentationNetwork)
    with pytest.raises(WeightsError, match="kind 'opinion'"):
        model_from_bytes(weights, card | {"kind": "opinion"}, SegmentationNetwork)


def test_the_same_seed_builds_the_same_network() -> None:
    first, second = network().state_dict(), network().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
