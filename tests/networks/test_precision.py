"""bfloat16 is used where a device has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from dcsp.config import NetworkSettings, PrecisionSettings
from dcsp.inference.multiscale import prepare
from dcsp.networks import precision
from dcsp.networks.deeplab import build_network
from dcsp.networks.precision import arithmetic, autocast, keep_float32, memory_format

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


def test_depthwise_networks_go_plane_by_plane_on_gpus_alone() -> None:
    plain, depthwise = nn.Conv2d(4, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    assert memory_format(plain, BF16, "cuda:0") is torch.channels_last
    assert memory_format(depthwise, BF16, "cuda") is torch.contiguous_format
    assert memory_format(depthwise, BF16, "cpu") is torch.channels_last
    planes = PrecisionSettings(channels_last=False)
    assert memory_format(plain, planes, "cpu") is torch.contiguous_format


def test_a_folded_network_is_still_known_to_be_depthwise() -> None:
    settings = NetworkSettings(backbone="efficientnet_lite0", output_stride=16, weights="random")
    network = prepare(build_network(settings, ["cat"], None), FP32, "cpu")
    assert memory_format(network, FP32, "cuda") is torch.contiguous_format


def test_float32_on_gpus_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    keep_float32()
    assert not torch.backends.cudnn.allow_tf32
