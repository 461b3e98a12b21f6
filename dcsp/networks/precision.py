"""The arithmetic that a device computes in: bfloat16 where it has it, float32 elsewhere."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from dcsp.config import PrecisionSettings

_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def arithmetic(precision: PrecisionSettings, device: str | torch.device) -> torch.dtype:
    """What convolutions and matrix products are computed in.

    A device without bfloat16 emulates it, on CPUs 10 to 20 times slower than float32, which is
    never less exact: there ``bf16`` allows it and does not insist.
    """
    if precision.autocast == "bf16" and _has_bfloat16(torch.device(device).type):
        return torch.bfloat16
    return torch.float32


def autocast(precision: PrecisionSettings, device: str | torch.device) -> torch.autocast:
    """Arithmetic of networks, as the settings ask for and the device has it."""
    dtype, kind = arithmetic(precision, device), torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


def memory_format(
    network: object, precision: PrecisionSettings, device: str | torch.device
) -> torch.memory_format:
    """The order in memory of weights and activations in inference, where images have many sizes.

    With channels last, cuDNN makes a kernel of its own for each depthwise convolution and size of
    image: 2.3 s for a new size of EfficientNet-lite2, and 0.08 s plane by plane; a size that it
    knows takes as long in both (H200, torch 2.11).
    """
    modules = network.modules() if isinstance(network, nn.Module) else ()
    on_gpu = torch.device(device).type == "cuda"
    if not precision.channels_last or (on_gpu and any(map(_is_depthwise, modules))):
        return torch.contiguous_format
    return torch.channels_last


def keep_float32() -> None:
    """Let float32 convolutions on GPUs be that, and not TF32, whose maps of U²-Net-p are others."""
    torch.backends.cudnn.allow_tf32 = False


def _is_depthwise(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 4 and weight.shape[1] == 1


@cache
def _has_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return any(known.get(name) for name in _INSTRUCTIONS)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
