"""The arithmetic that a device computes in: bfloat16 where it has it, float32 elsewhere."""

from __future__ import annotations

from functools import cache

import torch

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
