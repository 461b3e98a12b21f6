"""Stride-1 depthwise convolution with a fast backward pass on CPUs.

oneDNN's gradient with respect to the input of a dilated 5×5 depthwise convolution takes some fifty
times as long as its forward pass; the same gradient is the forward convolution of the output's
gradient with the mirrored kernel. Values are those of :func:`torch.nn.functional.conv2d`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise_conv2d(x_BCHW: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
    """Depthwise convolution of stride 1 that keeps the size of its input.

    Args:
        x_BCHW: B×C×H×W.
        weight: C×1×k×k, k odd.
        padding: ``dilation × (k − 1) / 2`` on every side.
        dilation: Distance of kernel taps.
    """
    if x_BCHW.device.type != "cpu" or not torch.is_grad_enabled():
        return F.conv2d(x_BCHW, weight, None, 1, padding, dilation, weight.shape[0])
    if torch.is_autocast_enabled("cpu"):
        x_BCHW = x_BCHW.to(torch.get_autocast_dtype("cpu"))
    result: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
        x_BCHW, weight, padding, dilation
    )
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = (padding, dilation)
        with torch.autocast("cpu", enabled=False):
            kernel = weight.to(x.dtype)
            return F.conv2d(x, kernel, None, 1, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        padding, dilation = ctx.shape
        channels = weight.shape[0]
        to_input = to_weight = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                mirrored = weight.to(gradient.dtype).flip(2, 3)
                to_input = F.conv2d(gradient, mirrored, None, 1, padding, dilation, channels)
            if ctx.needs_input_grad[1]:
                # In float32: twice as fast here as in bfloat16, and exact sums over the batch.
                to_weight = torch.ops.aten.convolution_backward(
                    gradient.float(),
                    x.float(),
                    weight.float(),
                    None,
                    [1, 1],
                    [padding, padding],
                    [dilation, dilation],
                    False,
                    [0, 0],
                    channels,
                    [False, True, False],
                )[1].to(weight.dtype)
        return to_input, to_weight, None, None
