"""Forward passes of the networks of mining on arrays in memory, one image a call on all cores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from dcsp.config import DetectorSettings, PrecisionSettings
from dcsp.images.resize import resize_rgb
from dcsp.inference.multiscale import prepare
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.networks.precision import autocast


def seconds_per_image(
    images: Sequence[NDArray[np.uint8]],
    detector: Path,
    card: DetectorSettings,
    detections: int,
    network: SegmentationNetwork,
    scales: Sequence[float],
    precision: PrecisionSettings,
    threads: int,
) -> float:
    """Time the detector's passes and the network's scales, one image a call.

    Args:
        images: HWC uint8 RGB; only their sizes matter.
        detector: ONNX file.
        card: Its input.
        detections: Passes of the detector over all images.
        network: The FCAN.
        scales: Of the image, for the network.
        precision: Of the network.
        threads: Of either.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(detector, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shape = (len(images), 3, card.height, card.width)
    salient = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ready = prepare(network, precision, "cpu")
    views = [_view(image, scale, network.output_stride) for image in images for scale in scales]
    with torch.inference_mode(), autocast(precision, "cpu"):
        session.run(None, {name: salient[:1]})
        ready(views[0])
        start = time.perf_counter()
        for number in range(detections):
            index = number % len(images)
            session.run(None, {name: salient[index : index + 1]})
        for view in views:
            ready(view)
        return (time.perf_counter() - start) / len(images)


def _view(image: NDArray[np.uint8], scale: float, stride: int) -> torch.Tensor:
    height, width = (round(side * scale / stride) * stride + 1 for side in image.shape[:2])
    pixels = torch.from_numpy(resize_rgb(image, height, width)).permute(2, 0, 1)[None]
    return pixels.contiguous(memory_format=torch.channels_last)
