"""The method's block of settings: ``cues.contrast``."""

from __future__ import annotations

from dcsp.config import Settings, TrainSettings
from dcsp.config.base import Unit


class ContrastSettings(Settings):
    """Labels where there is contrast."""

    least: Unit = 0.02
    """Pixels of less contrast are ignored."""
    train: TrainSettings = TrainSettings(steps=2)
    """Training of the helper network."""
