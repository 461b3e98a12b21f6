"""The depthwise convolution has the values and gradients of torch's own, and is the one used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsp.networks import efficientnet
from dcsp.networks.depthwise import depthwise_conv2d

CHANNELS = 6
SHAPES = [(3, 1), (3, 2), (5, 1), (5, 2), (5, 4)]


def inputs(kernel: int, height: int = 13, width: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Image, weight, and a gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, CHANNELS, height, width), (CHANNELS, 1, kernel, kernel)]
    x, weight = (torch.randn(*shape, generator=generator) for shape in shapes)
    return x, weight, torch.randn(*x.shape, generator=generator)


def reference(x: Tensor, weight: Tensor, kernel: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, padding=dilation * (kernel // 2), dilation=dilation, groups=CHANNELS)


def ours(x: Tensor, weight: Tensor, kernel: int, dilation: int) -> Tensor:
    return depthwise_conv2d(x, weight, dilation * (kernel // 2), dilation)


def gradients(convolve, x: Tensor, weight: Tensor, upstream: Tensor, *shape: int) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    result = convolve(*leaves, *shape)
    result.backward(upstream.to(result.dtype))
    assert all(leaf.grad is not None and leaf.grad.dtype == leaf.dtype for leaf in leaves)
    return [result.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel", "dilation"), SHAPES)
def test_values_are_identical_and_gradients_equal(
    kernel: int, dilation: int, channels_last: bool
) -> None:
    x, weight, upstream = inputs(kernel)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = gradients(reference, x, weight, upstream, kernel, dilation)
    found = gradients(ours, x, weight, upstream, kernel, dilation)
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize(("kernel", "dilation"), SHAPES)
def test_under_autocast_it_is_as_near_to_float32_as_bfloat16_is(kernel: int, dilation: int) -> None:
    x, weight, upstream = inputs(kernel, 33, 29)
    exact = gradients(reference, x, weight, upstream, kernel, dilation)
    with torch.autocast("cpu", torch.bfloat16):
        expected = gradients(reference, x, weight, upstream, kernel, dilation)
        found = gradients(ours, x, weight, upstream, kernel, dilation)
    assert found[0].dtype == expected[0].dtype == torch.bfloat16
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], exact[1:], strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 2**-7 * theirs.norm()  # bfloat16 has 8 bits


def test_autocast_entered_for_the_forward_pass_alone_is_enough() -> None:
    """As in training: the backward pass runs outside."""
    x, weight, upstream = inputs(5)
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16):
        result = ours(*leaves, 5, 2)
    result.backward(upstream.bfloat16())
    exact = gradients(reference, x, weight, upstream, 5, 2)
    for leaf, theirs in zip(leaves, exact[1:], strict=True):
        assert leaf.grad is not None and leaf.grad.dtype == torch.float32
        assert (leaf.grad - theirs).norm() < 2**-6 * theirs.norm()


@pytest.mark.parametrize("learns", ["image", "weight"])
def test_only_what_learns_gets_a_gradient(learns: str) -> None:
    x, weight, upstream = inputs(3)
    leaf, other = (x, weight) if learns == "image" else (weight, x)
    leaf.requires_grad_()
    ours(x, weight, 3, 2).backward(upstream)
    assert leaf.grad is not None and leaf.grad.any() and other.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("autocast", [False, True])
def test_without_gradients_it_is_torchs_convolution(mode, autocast: bool) -> None:
    x, weight, _ = inputs(5)
    weight.requires_grad_()
    with mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = ours(x, weight, 5, 2)
        assert torch.equal(result, reference(x, weight, 5, 2))
    assert result.grad_fn is None and not result.requires_grad


class TorchConv2d(nn.Conv2d):
    """SAME padding of stride 1 by torch's own convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, None, 1, "same", self.dilation, self.groups)


def test_efficientnet_trains_with_it_and_gets_torchs_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(x: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
        calls.append((tuple(weight.shape), dilation))
        return depthwise_conv2d(x, weight, padding, dilation)

    monkeypatch.setattr(efficientnet, "depthwise_conv2d", counted)
    torch.manual_seed(0)
    net = efficientnet.EfficientNetLite("efficientnet_lite0", 16).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    image = torch.randn(1, 3, 65, 49)

    def learn() -> dict[str, Tensor]:
        net.zero_grad()
        net(image)[-1].square().mean().backward()
        return {k: p.grad.clone() for k, p in net.named_parameters() if p.grad is not None}

    found = learn()
    depthwise = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    unit = [m for m in depthwise if m.stride == (1, 1)]
    assert calls == [(tuple(m.weight.shape), m.dilation[0]) for m in unit]
    assert {dilation for _, dilation in calls} == {1, 2} and len(found) == len(
        list(net.parameters())
    )
    for module in unit:
        module.__class__ = TorchConv2d
    expected = learn()
    assert len(calls) == len(unit)
    for key, theirs in expected.items():
        assert (found[key] - theirs).norm() <= 1e-4 * theirs.norm() + 1e-12, key
