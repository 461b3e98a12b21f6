"""``python -m tests.bench.cluster_model growth.json``: what a GPU cluster would do. A model.

Work of CPUs and bytes are what :mod:`tests.bench.growth` measured on this machine, an image. Work
of GPUs is counted: multiplications and additions of ResNet-101 at stride 8 over the paper's views,
and of the saliency detector's convolutions, at a rate that is assumed. A stage takes as long as the
slower of the two; start-up, the network between nodes and the object store are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from dcsp.config import DetectorSettings, NetworkSettings
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import resize_rgb
from dcsp.labels import VOC_CLASSES
from dcsp.networks.deeplab import build_network
from dcsp.networks.weights import resolve_weights
from dcsp.tables.snapshot import TRAIN
from tests.bench.growth import CUES, EVALUATION, INGEST, PHOTOGRAPH_PIXELS, PREDICTIONS, SALIENCY
from tests.bench.inputs import Inputs
from tests.bench.peers.authors_mining import SCALES

CROP, BATCH, TRAINING_PASSES = 321, 64, 3
"""Of joint training; backward costs twice what forward does."""
PASSES = 2.8
"""Detections an image needs, as counted on photographs (``mining_vs_forward``)."""


@dataclass(frozen=True)
class Cluster:
    """What is assumed.

    Attributes:
        gpus: Their number.
        cores: CPU cores beside each.
        rate: Operations a second of a GPU in bfloat16 matrix products.
        utilisation: Share of them that the networks reach.
    """

    gpus: int
    cores: int
    rate: float
    utilisation: float

    def gpu_seconds(self, flops: float) -> float:
        """Of all GPUs for so many operations."""
        return flops / (self.gpus * self.rate * self.utilisation)

    def cpu_seconds(self, core_seconds: float) -> float:
        """Of all CPUs."""
        return core_seconds / (self.gpus * self.cores)


@dataclass(frozen=True)
class Stage:
    """Work of one stage, all images together."""

    title: str
    flops: float
    core_seconds: float
    bytes: float

    def seconds(self, cluster: Cluster) -> float:
        """How long it takes."""
        return max(cluster.gpu_seconds(self.flops), cluster.cpu_seconds(self.core_seconds))


def stages(
    points: Sequence[dict[str, Any]], images: float, steps: int, decoding: float
) -> list[Stage]:
    """The stages of a run with one round of adaptation.

    Args:
        points: As growth.json has them.
        images: How many.
        steps: Of each training.
        decoding: Core seconds to decode and resize an image, which feeds a GPU.
    """
    views = sum(network_flops(round(375 * s), round(500 * s)) for s in SCALES)
    detector = PASSES * detector_flops()
    training = TRAINING_PASSES * network_flops(CROP, CROP) * steps * BATCH
    flops = {SALIENCY: detector, CUES: views, PREDICTIONS: views}
    made = []
    for title in (INGEST, SALIENCY, CUES, PREDICTIONS, EVALUATION):
        point = _at_photographs(points, title)
        work = images * flops.get(title, 0.0)
        cores = images * (point["tasks"] + (decoding if title in flops else 0.0))
        made.append(Stage(title, work, cores, images * point["bytes"]))
    refined = images * (
        _at_photographs(points, PREDICTIONS, "pixels, with CRF")["tasks"] + decoding
    )
    with_crf = Stage("predictions, with CRF", made[3].flops, refined, 0.0)
    samples = steps * BATCH * decoding
    fcan, joint = (Stage(name, training, samples, 0.0) for name in ("fcan", "joint"))
    again = Stage("cues of adaptation", made[2].flops, made[2].core_seconds, made[2].bytes)
    return [*made[:2], fcan, made[2], joint, again, joint, made[3], made[4], with_crf]


def decoding_seconds(inputs: Inputs) -> float:
    """To decode a photograph and bring it to the detector's size, on one core."""
    photographs, card = inputs.photographs(inputs.pick(4, 64), TRAIN), DetectorSettings()
    start = time.perf_counter()
    for photograph in photographs:
        resize_rgb(decode_rgb(photograph.data), card.height, card.width)
    return (time.perf_counter() - start) / len(photographs)


def network_flops(height: int, width: int) -> float:
    """Of one image through the paper's network."""
    settings = NetworkSettings(backbone="resnet101", output_stride=8, weights="random")
    with torch.device("meta"):
        network = build_network(settings, VOC_CLASSES, None).eval()
        image = torch.empty(1, 3, height, width)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(image)
    return float(counter.get_total_flops())


def detector_flops() -> float:
    """Of the convolutions of the built-in detector, one image."""
    card = DetectorSettings()
    model = onnx.load(str(resolve_weights(card.model, card.sha256)))
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = (node for node in graph.node if node.op_type == "Conv")
    return float(
        sum(
            2 * prod(weights[node.input[1]]) * prod(shapes[node.output[0]][-2:])
            for node in convolutions
        )
    )


def table(made: Sequence[Stage], cluster: Cluster) -> str:
    """A line a stage: time, what it waits for, operations, core seconds, bytes."""
    lines = ["stage | hours | waits for | operations | core hours | bytes"]
    for stage in made:
        gpu, cpu = cluster.gpu_seconds(stage.flops), cluster.cpu_seconds(stage.core_seconds)
        waits = "GPU" if gpu > cpu else "CPU"
        size = f"{stage.bytes / 1e9:,.0f} GB" if stage.bytes else ""
        hours = f"{stage.seconds(cluster) / 3600:.1f}"
        work = f"{stage.flops:.2g}" if stage.flops else ""
        cores = f"{stage.core_seconds / 3600:,.0f}" if stage.core_seconds else ""
        lines.append(" | ".join((stage.title, hours, waits, work, cores, size)))
    total = sum(stage.seconds(cluster) for stage in made[:-1])
    lines.append(f"together, without CRF | {total / 3600:.1f}")
    return "\n".join(lines)


def _at_photographs(
    points: Sequence[dict[str, Any]], stage: str, quantity: str = "pixels"
) -> dict[str, Any]:
    return next(
        point
        for point in points
        if (point["quantity"], point["stage"]) == (quantity, stage)
        and point["value"] == PHOTOGRAPH_PIXELS
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the model."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster_model")
    parser.add_argument("growth", type=Path, help="what python -m tests.bench.growth wrote")
    parser.add_argument("--images", type=float, default=1e7)
    parser.add_argument("--steps", type=int, default=40_000, help="of each training, batch 64")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--cores", type=int, default=12, help="CPU cores a GPU")
    parser.add_argument("--tflops", type=float, default=600.0, help="bfloat16 matrix rate of a GPU")
    parser.add_argument("--utilisation", type=float, default=0.4)
    options = parser.parse_args(arguments)
    points = json.loads(options.growth.read_text(encoding="utf-8"))["points"]
    cluster = Cluster(options.gpus, options.cores, options.tflops * 1e12, options.utilisation)
    with tempfile.TemporaryDirectory(prefix="dcsp-bench-") as directory:
        decoding = decoding_seconds(Inputs(Path(directory), quick=False))
    print(table(stages(points, options.images, options.steps, decoding), cluster))


if __name__ == "__main__":
    main()
