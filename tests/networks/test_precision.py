"""bfloat16 is used where a device has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dcsp.config import PrecisionSettings
from dcsp.networks import precision
from dcsp.networks.precision import arithmetic, autocast

BF16, FP32 = PrecisionSettings(autocast="bf16"), PrecisionSettings(autocast="fp32")
Knows = Callable[[dict[str, Any]], None]


@pytest.fixture
def cpu_knows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Knows]:
    """Says which instructions this processor seems to have."""

    def knows(capabilities: dict[str, Any]) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        precision._has_bfloat16.cache_clear()

    yield knows
    precision._has_bfloat16.cache_clear()


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_that_has_it_computes_in_bfloat16(cpu_knows: Knows, name: str) -> None:
    cpu_knows({"architecture": "any", name: True})
    assert arithmetic(BF16, "cpu") is torch.bfloat16
    with autocast(BF16, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_a_processor_without_it_computes_in_float32(cpu_knows: Knows) -> None:
    cpu_knows({"architecture": "x86_64", "avx2": True, "avx512_bf16": False, "avx512_f": True})
    assert arithmetic(BF16, torch.device("cpu")) is torch.float32
    with autocast(BF16, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def test_float32_is_float32_everywhere(cpu_knows: Knows) -> None:
    cpu_knows({"amx_bf16": True})
    assert arithmetic(FP32, "cpu") is torch.float32
    with autocast(FP32, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def test_an_older_torch_is_asked_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    precision._has_bfloat16.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert arithmetic(BF16, "cpu") is torch.bfloat16
    precision._has_bfloat16.cache_clear()
