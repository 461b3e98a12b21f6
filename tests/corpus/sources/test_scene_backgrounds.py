"""Backgrounds of the generated scenes."""

from __future__ import annotations

import numpy as np

from dcsp.corpus.sources.scene_backgrounds import paint_background


def test_a_background_is_a_picture_with_a_horizon() -> None:
    for seed in range(8):
        picture, horizon = paint_background(np.random.default_rng(seed), 48, 64)
        assert picture.shape == (48, 64, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.02
        assert 0.2 <= horizon <= 0.5
