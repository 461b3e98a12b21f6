"""ONNX files run by torch say what onnxruntime says, or that they cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dcsp.config import DetectorSettings
from dcsp.errors import DcspError
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import resize_rgb
from dcsp.networks.weights import resolve_weights
from dcsp.saliency.by_torch import TorchNetwork, UnknownOperatorError
from dcsp.saliency.detector import SaliencyDetector
from tests.photographs import JPEGS, needs_photographs

SHAPE = (2, 4, 11, 14)
RANDOM = np.random.default_rng(0)


def drawn(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    batch: int | str = "N",
    opset: int = 15,
) -> Path:
    """A model from ``x`` to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *SHAPE[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path


def both(path: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What torch and what onnxruntime says."""
    network = TorchNetwork(path, "y", torch.device("cpu"))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["y"], {"x": images})
    return network(torch.from_numpy(images)).numpy(), expected


def conv(weight: str = "w", bias: str = "b", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", weight, bias], ["y"], **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [2, 0, 2, 0], "strides": [2, 1]},
        {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    ],
)
def test_convolutions(tmp_path: Path, attributes: dict[str, Any]) -> None:
    weights = {"w": drawn(6, 4, 3, 3), "b": drawn(6)}
    found, expected = both(write(tmp_path / "m", [conv(**attributes)], weights), drawn(*SHAPE))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_convolutions_of_groups_without_a_bias(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    found, expected = both(write(tmp_path / "m", [node], {"w": drawn(4, 1, 3, 3)}), drawn(*SHAPE))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_pooling_of_odd_sizes(tmp_path: Path, ceil_mode: int) -> None:
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": ceil_mode}
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    found, expected = both(write(tmp_path / "m", [node]), drawn(*SHAPE))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["half_pixel", "pytorch_half_pixel"])
@pytest.mark.parametrize("size", [(23, 5), (11, 28), (4, 4)])
def test_resizing(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    node = helper.make_node(
        "Resize",
        ["x", "", "", "size"],
        ["y"],
        mode="linear",
        coordinate_transformation_mode=mode,
    )
    weights = {"size": np.array([*SHAPE[:2], *size])}
    found, expected = both(write(tmp_path / "m", [node], weights, SHAPE[0]), drawn(*SHAPE))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_size_that_is_worked_out_of_shapes(tmp_path: Path) -> None:
    """As exporters write an upsampling to the size of another map, for any number of images."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "four"], ["sides"]),
        helper.make_node("Shape", ["half"], ["others"]),
        helper.make_node("Slice", ["others", "zero", "two"], ["first"]),
        helper.make_node("Concat", ["first", "sides"], ["size"], axis=0),
        helper.make_node(
            "Resize",
            ["half", "", "", "size"],
            ["y"],
            mode="linear",
            coordinate_transformation_mode="pytorch_half_pixel",
        ),
    ]
    weights = {name: np.array([n]) for name, n in (("zero", 0), ("two", 2), ("four", 4))}
    path = write(tmp_path / "m", nodes, weights, batch=1)
    images = drawn(*SHAPE)
    found, expected = both(path, images[:1])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    network = TorchNetwork(path, "y", torch.device("cpu"))
    assert network(torch.from_numpy(images)).shape == SHAPE  # any number of them


@pytest.mark.parametrize("opset", [13, 15, 19])
def test_half_precision_weights_and_the_rest_of_the_operators(tmp_path: Path, opset: int) -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "wide"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Sigmoid", ["a"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["d"]),
        helper.make_node("Sub", ["d", "half"], ["e"]),
        helper.make_node("Div", ["e", "half"], ["f"]),
        helper.make_node("Concat", ["f", "c"], ["g"], axis=1),
        helper.make_node("Cast", ["g"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["i"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["i", "half"], ["j"]),
        helper.make_node("Add", ["j", "j"], ["y"]),
    ]
    weights = {"w": drawn(3, 4, 3, 3, dtype="float16"), "half": np.float32([0.5])}
    found, expected = both(write(tmp_path / "m", nodes, weights, opset=opset), drawn(*SHAPE))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)  # rounded once on the way


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (helper.make_node("Sqrt", ["x"], ["y"]), "the operator Sqrt"),
        (conv(pads=[0, 0, 1, 1]), "Conv with other pads"),
        (conv(auto_pad="SAME_UPPER"), "Conv with other pads"),
        (
            helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
            "MaxPool with other pads",
        ),
        (
            helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear"),
            "Resize to no fixed size",
        ),
        (
            helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="nearest"),
            "Resize that is not linear",
        ),
        (
            helper.make_node(
                "Resize",
                ["x", "", "", "size"],
                ["y"],
                mode="linear",
                coordinate_transformation_mode="align_corners",
            ),
            "coordinate_transformation_mode align_corners",
        ),
    ],
)
def test_what_is_not_known_is_said(tmp_path: Path, node: onnx.NodeProto, told: str) -> None:
    weights = {
        "w": drawn(6, 4, 3, 3),
        "b": drawn(6),
        "scales": np.float32([1, 1, 2, 2]),
        "size": np.array([1, 4, 22, 28]),
    }
    used = {name: weights[name] for name in node.input if name in weights}
    with pytest.raises(UnknownOperatorError, match=told):
        TorchNetwork(write(tmp_path / "m", [node], used, 1), "y", torch.device("cpu"))


def test_nodes_that_the_output_does_not_need_are_left_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Sqrt", ["x"], ["other"])]
    found, expected = both(write(tmp_path / "m", nodes), drawn(*SHAPE))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.network
@needs_photographs
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_u2netp_is_the_same(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    try:
        path = resolve_weights("u2netp")
    except DcspError as error:
        pytest.skip(f"the U2-Net-p file cannot be had here: {error}")
    detector = SaliencyDetector(path, DetectorSettings())
    files = sorted(JPEGS.iterdir())[:2]
    images = np.stack([resize_rgb(decode_rgb(f.read_bytes(), 10**7), 320, 320) for f in files])
    expected = detector(images)
    detector._network = TorchNetwork(path, detector._output, torch.device(device))
    detector.device = device
    assert np.abs(detector(images) - expected).max() < 1 / 255
