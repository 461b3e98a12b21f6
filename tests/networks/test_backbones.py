"""Backbones by name; timm only where it is asked for."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dcsp.errors import ConfigError, WeightsError
from dcsp.networks import backbones
from dcsp.networks.backbones import NAMES, TimmBackbone, build_backbone
from dcsp.networks.decoder import skip_stages


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_ends_at_the_output_stride(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride)
        stages = backbone(torch.empty(1, 3, 64, 128))
    assert backbone.output_stride == output_stride
    assert len(stages) == 5
    assert stages[-1].shape[-2:] == (64 // output_stride, 128 // output_stride)
    assert tuple(stage.shape[1] for stage in stages) == backbone.stage_channels


def test_a_weights_file_is_loaded(tmp_path: Path) -> None:
    saved = build_backbone("resnet18", 16)
    safetensors.torch.save_file(saved.state_dict(), tmp_path / "w.safetensors")
    loaded = build_backbone("resnet18", 8, tmp_path / "w.safetensors")
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in saved.state_dict().items())


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet101"):
        build_backbone("resnet_101", 8)


def test_other_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match="output_stride=32"):
        build_backbone("resnet18", 32)


def test_our_own_backbones_never_import_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # an import of it raises
    copy = runpy.run_path(backbones.__file__)
    assert copy["build_backbone"]("resnet18", 8).output_stride == 8


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install timm"):
        build_backbone("timm:convnext_tiny", 8)


class FakeFeatures(nn.Module):
    """Two stages with the attributes of timm's feature extractors."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.stage = nn.Conv2d(4, 6, 3, stride=stride // 4, padding=1)
        self.feature_info = SimpleNamespace(channels=lambda: [4, 6], reduction=lambda: [4, stride])
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)}

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.stem(x), self.stage(self.stem(x))]


class FakePatches(nn.Module):
    """Two blocks of a plain transformer with patches of 14 pixels: each is its patch's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = SimpleNamespace(channels=lambda: [3, 3], reduction=lambda: [14, 14])

    def forward(self, x: Tensor) -> list[Tensor]:
        assert x.shape[-2] % 14 == x.shape[-1] % 14 == 0
        patches = nn.functional.avg_pool2d(x, 14)
        return [patches, patches]


@pytest.fixture
def timm_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for timm (which needs a torchvision of the same build); records create_model."""
    calls: list[dict[str, Any]] = []

    def create_model(name: str, **options: Any) -> nn.Module:
        calls.append({"name": name, **options})
        if name == "vit":
            raise RuntimeError("features_only not implemented")
        if name == "plain":
            if "output_stride" in options:
                raise TypeError("unexpected keyword argument 'output_stride'")
            return FakePatches()
        return FakeFeatures(32 if name == "fixed" else options["output_stride"])

    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return calls


def test_a_timm_model_brings_its_channels_and_normalisation(
    timm_calls: list[dict[str, Any]],
) -> None:
    backbone = build_backbone("timm:tiny", 8)
    assert isinstance(backbone, TimmBackbone)
    assert backbone.stage_channels == (4, 6)
    assert backbone.mean == (127.5, 127.5, 127.5)
    assert backbone.std == (63.75, 127.5, 255.0)
    assert backbone(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 6, 8, 8)
    assert timm_calls == [
        {"name": "tiny", "features_only": True, "output_stride": 8, "pretrained": False}
    ]


def test_weights_that_timm_fetches_by_itself_have_their_digest(
    timm_calls: list[dict[str, Any]],
) -> None:
    """Nobody knows them beforehand: the training tells which they were."""
    torch.manual_seed(0)
    first = build_backbone("timm:tiny", 8, pretrained=True)
    torch.manual_seed(0)
    same = build_backbone("timm:tiny", 8, pretrained=True)
    other = build_backbone("timm:tiny", 8, pretrained=True)
    assert first.fetched and first.fetched == same.fetched != other.fetched
    assert build_backbone("timm:tiny", 8).fetched is None
    assert build_backbone("resnet18", 8).fetched is None


def test_a_file_for_timm_is_read_here_and_handed_over_as_tensors(
    timm_calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    safetensors.torch.save_file({"stem.bias": torch.ones(4)}, tmp_path / "w.safetensors")
    build_backbone("timm:tiny", 8, tmp_path / "w.safetensors")
    assert timm_calls[0]["pretrained"] is True
    assert list(timm_calls[0]["pretrained_cfg_overlay"]["state_dict"]) == ["stem.bias"]


@pytest.mark.parametrize("stride", [8, 16])
def test_a_patch_of_a_plain_transformer_is_centred_on_its_cells_pixel(
    timm_calls: list[dict[str, Any]], stride: int
) -> None:
    backbone = build_backbone("timm:plain", stride)
    assert backbone.stage_strides == (stride, stride)
    height, width = 4 * stride + 1, 6 * stride + 1
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float32)[None].expand(height, width)
    image = torch.stack([rows, columns, rows])[None]
    cells = backbone(image)[-1]
    assert cells.shape == (1, 3, 5, 7)
    expected = torch.arange(7.0) * stride
    torch.testing.assert_close(cells[0, 1, 2, 1:-1], expected[1:-1], atol=0.6, rtol=0)
    torch.testing.assert_close(cells[0, 0, 1:-1, 3], (torch.arange(5.0) * stride)[1:-1],
                               atol=0.6, rtol=0)  # fmt: skip
    with pytest.raises(ConfigError, match=f"strides 4 and 8.*{stride}, {stride}"):
        skip_stages(backbone)
    assert backbone(torch.zeros(1, 3, 50, 70))[-1].shape[-2:] == (
        -(-50 // stride),
        -(-70 // stride),
    )


def test_a_timm_model_without_the_stride_or_stages_is_refused(
    timm_calls: list[dict[str, Any]],
) -> None:
    with pytest.raises(ConfigError, match="stride 32, not 8"):
        build_backbone("timm:fixed", 8)
    with pytest.raises(ConfigError, match="cannot build 'vit'"):
        build_backbone("timm:vit", 8)
    with pytest.raises(WeightsError, match="cannot build 'vit'"):
        build_backbone("timm:vit", 8, pretrained=True)
