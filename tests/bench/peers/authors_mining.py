"""The authors' mining, re-enacted: one image at a time, each scale by itself, files in between."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.saliency.detector import SaliencyDetector
from tests.bench.peers import reference

SCALES = (1.0, 0.75, 0.5)


class AuthorsMining:
    """Saliency, attention and cue of one image after the other.

    Args:
        folder: Where files go.
        detector: Takes images of its own size.
        network: The FCAN, float32.
        thresholds: τ_k.
        gamma: Least harmonic mean of a foreground pixel.
    """

    def __init__(
        self,
        folder: Path,
        detector: SaliencyDetector,
        network: SegmentationNetwork,
        thresholds: tuple[float, ...],
        gamma: float,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._detector, self._network = folder, detector, network.eval()
        self._thresholds, self._gamma = thresholds, gamma

    def seconds(self, name: str, data: bytes, tags: list[int]) -> float:
        """What one encoded image takes."""
        start = time.perf_counter()
        with Image.open(io.BytesIO(data)) as opened:
            image: NDArray[np.uint8] = np.asarray(opened.convert("RGB"))
        reference.mine(
            self._folder,
            name,
            image,
            self._detect,
            lambda: self._attend(image, tags),
            self._thresholds,
            tags,
            self._gamma,
        )
        return time.perf_counter() - start

    def _detect(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """One map at image size."""
        height, width = image.shape[:2]
        size = (self._detector.width, self._detector.height)
        small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        found = Image.fromarray(self._detector(small[None])[0])
        full = np.asarray(found.resize((width, height), Image.Resampling.BILINEAR))
        return full.astype(np.float64)

    def _attend(self, image: NDArray[np.uint8], tags: list[int]) -> NDArray[np.float32]:
        """The maximum over scales of the tags' attention, at image size."""
        height, width = image.shape[:2]
        channels = [tag - 1 for tag in tags]
        maps = []
        with torch.inference_mode():
            for scale in SCALES:
                size = (round(width * scale), round(height * scale))
                scaled = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
                pixels = torch.from_numpy(scaled).permute(2, 0, 1)[None].float()
                found = self._network(pixels).attention[:, channels]
                maps.append(F.interpolate(found, (height, width), mode="bilinear"))
        fused: NDArray[np.float32] = torch.cat(maps).amax(dim=0).numpy()
        return fused
