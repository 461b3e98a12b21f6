"""The table of foreground: activations that the backbone's weights file decides, and they alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from dcsp.config.file import parse_config
from dcsp.methods.builtin.foreground_table import ForegroundStage
from dcsp.networks.backbones import build_backbone
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels, unpack_array
from tests.threads import torch_threads


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file such as ImageNet's: all convolutions, neither fc6 nor fc7."""
    torch.manual_seed(0)
    state = build_backbone("vgg16", 16).state_dict()
    kept = {name: value for name, value in state.items() if name.startswith("features.")}
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.safetensors"
    safetensors.torch.save_file(kept, path)
    return str(path)


def stage(weights: str, seed: int) -> ForegroundStage:
    network = {"backbone": "vgg16", "weights": weights, "output_stride": 16}
    tree = {"store": "x", "seed": seed, "corpus": {"kind": "scenes"}, "network": network}
    return ForegroundStage(parse_config(tree | {"precision": {"autocast": "fp32"}}))


def activations(made: ForegroundStage, tmp_path: Path) -> np.ndarray:
    random = np.random.default_rng(0)
    image = encode_labels(random.integers(0, 21, (48, 64), dtype=np.uint8))  # a colourful PNG
    rows = {"image_id": ["a"], "height": [48], "width": [64], "tags": [[1]]}
    table = pa.table({**rows, "bytes": pa.array([image], pa.large_binary())})
    with torch_threads(1):
        found = made.load(Store(tmp_path), Device())(table)
    assert found["status"].to_pylist() == ["ok"]
    return unpack_array(found["raw"][0].as_py())


def test_one_fingerprint_is_one_table_whatever_the_seed(vgg16: str, tmp_path: Path) -> None:
    """VGG-16's fc7, which no ImageNet file fills, once stood in for the fifth stage."""
    first, second = stage(vgg16, seed=1), stage(vgg16, seed=2)
    assert first.key == second.key and first.key.seed is None
    np.testing.assert_array_equal(activations(first, tmp_path), activations(second, tmp_path))


def test_random_weights_are_of_their_seed(tmp_path: Path) -> None:
    first, second = stage("random", seed=1), stage("random", seed=2)
    assert first.key != second.key
    assert (activations(first, tmp_path) != activations(second, tmp_path)).any()


def test_the_convolutions_of_vgg16_end_with_pool5() -> None:
    net = build_backbone("vgg16", 16).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.manual_seed(0))
    with torch.inference_mode():
        *shallow, pool5 = net.convolutions(image)
        *same, fc7 = net(image)
    assert pool5.shape[1] == 512 and fc7.shape[1] == 1024
    assert all(torch.equal(a, b) for a, b in zip(shallow, same, strict=True))
