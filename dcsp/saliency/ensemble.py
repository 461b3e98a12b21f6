"""Detectors as one: each pass is the average of what all of them say, mirrored or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dcsp.config import DetectorSettings
from dcsp.images.resize import resize_map, resize_rgb
from dcsp.saliency.hierarchy import Detector


class DetectorEnsemble:
    """Looks at an image with every detector at the size of each; maps have the largest size.

    Args:
        detectors: At least one.
        cards: Of each.
    """

    def __init__(self, detectors: Sequence[Detector], cards: Sequence[DetectorSettings]) -> None:
        self.height = max(detector.height for detector in detectors)
        self.width = max(detector.width for detector in detectors)
        self._members = list(zip(detectors, cards, strict=True))
        self._total = sum(card.weight for card in cards)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Saliency (B, height, width) float32 in [0, 1] of (B, height, width, 3) uint8 RGB."""
        total = np.zeros(images.shape[:3], np.float32)
        for detector, card in self._members:
            total += _look(detector, images, card.mirror) * np.float32(card.weight / self._total)
        return total.clip(0.0, 1.0, out=total)


def _look(detector: Detector, images: NDArray[np.uint8], mirror: bool) -> NDArray[np.float32]:
    """What one detector says, at the size of the images."""
    size = (detector.height, detector.width)
    seen = images
    if images.shape[1:3] != size:
        seen = np.stack([resize_rgb(image, *size) for image in images])
    maps = detector(seen)
    if mirror:
        maps = maps + detector(np.ascontiguousarray(seen[:, :, ::-1]))[:, :, ::-1]
        maps *= np.float32(0.5)
    return resize_map(maps, *images.shape[1:3])
