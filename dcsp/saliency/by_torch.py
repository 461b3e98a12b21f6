"""An ONNX detector run by torch, on GPUs: nothing beside torch has to fit their driver.

onnxruntime first writes the graph with all that the input's size decides worked out; what is left
of a convolutional detector are a handful of operators, each of which torch has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from dcsp.networks.precision import keep_float32

ort: Any = onnxruntime  # it has no types
_Step = tuple[Callable[..., Tensor], list[str], str]


class UnknownOperatorError(Exception):
    """The file has an operator, or a use of one, that is not known here."""


class TorchNetwork:
    """The graph of an ONNX file as calls of torch, in float32.

    Args:
        path: The file; its input has a fixed height and width, or takes those of what comes.
        output: Name of the output that is asked for.
        device: Where the weights lie.

    Raises:
        UnknownOperatorError: See there.
    """

    def __init__(self, path: Path, output: str, device: torch.device) -> None:
        keep_float32()
        graph = _folded(path)
        constants = {
            t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer
        }
        self._input = graph.input[0].name
        self._output = output
        self._steps = [
            _step(node, constants)
            for node in _needed(graph, output)
            if not _is_cast_of_constant(node, constants)
        ]
        self._last = {name: i for i, (_, names, _) in enumerate(self._steps) for name in names}
        used = {name for _, names, _ in self._steps for name in names}
        self._weights = {
            name: _laid_out(value.float() if value.is_floating_point() else value).to(device)
            for name, value in constants.items()
            if name in used
        }

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """The output for float32 images on the device of the weights."""
        values = {**self._weights, self._input: images_BCHW}
        with torch.inference_mode():
            for number, (call, names, made) in enumerate(self._steps):
                values[made] = call(*(values[name] for name in names))
                for name in set(names):
                    if self._last[name] == number:
                        del values[name]
        return values[self._output]


def _folded(path: Path) -> Any:
    """The graph, in which nothing depends on the input's size any more."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4  # it warns that such a file is for machines like this one
    with tempfile.TemporaryDirectory(prefix="dcsp-onnx-") as folder:
        written = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(written)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(written)).graph


def _needed(graph: Any, output: str) -> list[onnx.NodeProto]:
    """The nodes that the output depends on, in order."""
    wanted, nodes = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    return nodes[::-1]


def _is_cast_of_constant(node: onnx.NodeProto, constants: dict[str, Tensor]) -> bool:
    """Whether a node but changes the type of weights; if so, its output is a weight from now on."""
    if node.op_type != "Cast" or node.input[0] not in constants:
        return False
    constants[node.output[0]] = constants[node.input[0]]
    return True


def _step(node: onnx.NodeProto, constants: dict[str, Tensor]) -> _Step:
    inputs = [name for name in node.input if name]
    if node.domain in ("", "ai.onnx") and node.op_type in _PLAIN and not node.attribute:
        return _PLAIN[node.op_type], inputs, node.output[0]
    if node.domain in ("", "ai.onnx") and node.op_type in _MAKERS:
        if node.op_type == "Resize":  # its size is worked out here
            inputs = inputs[:1]
        return _MAKERS[node.op_type](node, constants), inputs, node.output[0]
    raise UnknownOperatorError(f"the operator {node.op_type}")


def _laid_out(weight: Tensor) -> Tensor:
    return weight.to(memory_format=torch.channels_last) if weight.ndim == 4 else weight


def _attributes(node: onnx.NodeProto, known: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a node over their defaults.

    Raises:
        UnknownOperatorError: There is one beside those.
    """
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    found = {n: v.decode() if isinstance(v, bytes) else v for n, v in found.items()}
    if unknown := sorted(found.keys() - known.keys()):
        raise UnknownOperatorError(f"{node.op_type} with {unknown[0]}")
    return known | found


def _only(node: onnx.NodeProto, **allowed: tuple[Any, ...] | None) -> None:
    """Attributes with a value that is known here, the first by default; None: any."""
    defaults = {name: values[0] if values else None for name, values in allowed.items()}
    for name, value in _attributes(node, defaults).items():
        if (values := allowed[name]) is not None and value not in values:
            raise UnknownOperatorError(f"{node.op_type} with {name} {value}")


def _cast(node: onnx.NodeProto, _: dict[str, Tensor]) -> Callable[..., Tensor]:
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    _only(node, to=floats, saturate=None)
    return lambda value: value


def _concat(node: onnx.NodeProto, _: dict[str, Tensor]) -> Callable[..., Tensor]:
    axis = int(_attributes(node, {"axis": 1})["axis"])
    return lambda *values: torch.cat(values, axis)


def _conv(node: onnx.NodeProto, constants: dict[str, Tensor]) -> Callable[..., Tensor]:
    shape = constants[node.input[1]].shape if node.input[1] in constants else ()
    if len(shape) != 4:
        raise UnknownOperatorError("Conv that is not of images")
    has = _attributes(
        node,
        {
            "strides": [1, 1],
            "pads": [0] * 4,
            "dilations": [1, 1],
            "group": 1,
            "kernel_shape": list(shape[2:]),
            "auto_pad": "NOTSET",
        },
    )
    top, left, bottom, right = has["pads"]
    if has["auto_pad"] != "NOTSET" or (top, left) != (bottom, right):
        raise UnknownOperatorError("Conv with other pads on either side")

    def call(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(
            value, weight, bias, has["strides"], (top, left), has["dilations"], has["group"]
        )

    return call


def _max_pool(node: onnx.NodeProto, _: dict[str, Tensor]) -> Callable[..., Tensor]:
    has = _attributes(
        node,
        {
            "kernel_shape": [],
            "strides": [1, 1],
            "pads": [0] * 4,
            "dilations": [1, 1],
            "ceil_mode": 0,
            "auto_pad": "NOTSET",
            "storage_order": 0,
        },
    )
    top, left, bottom, right = has["pads"]
    if has["auto_pad"] != "NOTSET" or (top, left) != (bottom, right):
        raise UnknownOperatorError("MaxPool with other pads on either side")
    if len(has["kernel_shape"]) != 2 or len(node.output) > 1:
        raise UnknownOperatorError("MaxPool that is not of images alone")

    def call(value: Tensor) -> Tensor:
        return F.max_pool2d(
            value,
            has["kernel_shape"],
            has["strides"],
            (top, left),
            has["dilations"],
            ceil_mode=bool(has["ceil_mode"]),
        )

    return call


def _resize(node: onnx.NodeProto, constants: dict[str, Tensor]) -> Callable[..., Tensor]:
    _only(
        node,
        mode=("nearest", "linear"),
        coordinate_transformation_mode=("half_pixel", "pytorch_half_pixel"),
        antialias=(0,),
        cubic_coeff_a=None,
        exclude_outside=None,
        extrapolation_value=None,
        keep_aspect_ratio_policy=None,
        nearest_mode=None,
    )
    if not any(a.name == "mode" and a.s == b"linear" for a in node.attribute):
        raise UnknownOperatorError("Resize that is not linear")
    sizes = constants.get(node.input[3]) if len(node.input) > 3 else None
    if sizes is None or len(sizes) != 4:
        raise UnknownOperatorError("Resize to no fixed size")
    size = [int(n) for n in sizes[2:]]
    return lambda value: F.interpolate(value, size=size, mode="bilinear", align_corners=False)


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
}
"""Operators without attributes."""
_MAKERS: dict[str, Callable[[onnx.NodeProto, dict[str, Tensor]], Callable[..., Tensor]]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _conv,
    "MaxPool": _max_pool,
    "Resize": _resize,
}
"""Those whose call is made of a node and the constants."""
