"""The smallest run that goes through every stage, and a detector made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

TRAIN, VAL, PART_ROWS = 12, 4, 3
SIDE = 32  # of the detector's input, in pixels


def write_detector(path: Path) -> Path:
    """An ONNX detector that finds what is bright."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["brightness"], keepdims=1),
        helper.make_node("Mul", ["brightness", "gain"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
            numpy_helper.from_array(np.array(4, np.float32), "gain"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_config(path: Path, detector: Path) -> Path:
    """The config of the tiny run; ``store`` is to be given on the command line."""
    train = {"batch": 4, "crop": 64, "checkpoint_every": 100}
    one_scale = {"scales": [1.0]}
    tree = {
        "store": "give store=DIR",
        "name": "tiny",
        "corpus": {
            "kind": "scenes",
            "classes": ["ball", "crate", "starfish", "mushroom", "fish", "cactus"],
            "part_rows": PART_ROWS,
            "scenes": {"train": TRAIN, "val": VAL, "height": 64, "width": 80},
        },
        "network": {
            "backbone": "resnet18",
            "weights": "random",
            "output_stride": 16,
            "atrous_rates": [1, 2],
        },
        "saliency": {"detectors": [{"model": str(detector), "height": SIDE, "width": SIDE}]},
        "fcan": {**train, "steps": 12},  # enough to be killed in the middle
        "joint": {**train, "steps": 2},
        "cues": {"dcsp": {"attention": one_scale}, "adapt": one_scale},
        "predict": one_scale,
        "report": {"gallery": 2},
        "cluster": {"actors": 1, "train_cpus": 1, "stall_minutes": 5},
    }
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path
