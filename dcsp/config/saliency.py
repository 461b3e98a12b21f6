"""Hierarchical saliency and its detector (paper 4.2)."""

from __future__ import annotations

from typing import Literal

from dcsp.config.base import PositiveFloat, PositiveInt, Settings, Unit, Url


class DetectorSettings(Settings):
    """The card of a salient object detector: any ONNX file, image in, map out (paper 4.2)."""

    model: Url = "u2netp"
    """A registry name, a path or an https URL of an ONNX file."""
    sha256: str | None = None
    """Expected digest of the file; required for a URL."""
    height: PositiveInt = 320
    """Input height in pixels."""
    width: PositiveInt = 320
    """Input width in pixels."""
    scale: Literal["max", "255"] = "max"
    """Pixels are divided by the image's maximum (``max``) or by 255 before mean and std."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean taken off after scaling."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """RGB standard deviation divided by."""
    output: int = 0
    """Which output of the model is the map."""
    activation: Literal["none", "sigmoid"] = "none"
    """``sigmoid`` for models that put out logits."""


class SaliencySettings(Settings):
    """Hierarchical saliency (paper 4.2)."""

    detector: DetectorSettings | None = DetectorSettings()
    """null: there is none, and only methods that need none can be chosen."""
    thresholds: tuple[Unit, ...] = (0.7, 0.8)
    """Erasing threshold after each pass but the last; passes = thresholds + 1. Paper: 0.7, 0.8."""

    @property
    def passes(self) -> int:
        """Number of detector passes, and of maps S_1 … S_K kept for an image."""
        return len(self.thresholds) + 1
