"""Labels as one writes it first: one image, one scale at a time, float32, PNG files."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from dcsp.networks.deeplab import SegmentationNetwork
from tests.bench.peers.plain_training import plain_copy


class PlainPrediction:
    """Scores of every scale at image size, their maximum, the most probable class.

    Args:
        network: Copied; its convolutions become torch's own.
        folder: For the files.
        scales: Of the image.
    """

    def __init__(
        self, network: SegmentationNetwork, folder: Path, scales: tuple[float, ...]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._network, self._folder, self._scales = plain_copy(network).eval(), folder, scales

    def seconds(self, name: str, data: bytes) -> float:
        """What one encoded image takes."""
        start = time.perf_counter()
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
        fused: torch.Tensor | None = None
        with torch.inference_mode():
            for scale in self._scales:
                size = (round(image.width * scale), round(image.height * scale))
                scaled = np.array(image.resize(size, Image.Resampling.BILINEAR))
                pixels = torch.from_numpy(scaled).permute(2, 0, 1)[None].float()
                scores = self._network(pixels).score_map
                full = F.interpolate(scores, (image.height, image.width), mode="bilinear")
                fused = full if fused is None else torch.maximum(fused, full)
            assert fused is not None
            label = fused.softmax(dim=1)[0].argmax(dim=0).to(torch.uint8).numpy()
        Image.fromarray(label).save(self._folder / f"{name}.png")
        return time.perf_counter() - start
