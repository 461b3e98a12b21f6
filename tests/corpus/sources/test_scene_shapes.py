"""What the generated scenes are painted with."""

from __future__ import annotations

import numpy as np

from dcsp.corpus.sources.scene_shapes import fractal_noise


def test_noise_is_normalised_and_smooth() -> None:
    noise = fractal_noise(np.random.default_rng(0), 90, 120)
    assert (noise.shape, noise.dtype) == ((90, 120), np.float32)
    assert abs(noise.mean()) < 1e-4
    assert abs(noise.std() - 1) < 1e-4
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.35
