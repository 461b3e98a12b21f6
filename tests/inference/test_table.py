"""The predictions table: what of an image waits for its batch."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dcsp.config import PrecisionSettings, PredictSettings
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import limit_side, resize_rgb
from dcsp.inference.table import PredictionStage


@pytest.mark.parametrize("max_side", [None, 32, 500])
def test_an_image_is_scaled_as_soon_as_it_is_decoded(max_side: int | None) -> None:
    """Dozens wait for their batch: as large as they were, they would fill the memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    stage = PredictionStage(PredictSettings(), PrecisionSettings(), max_side, 10**6, "network")
    seen = stage._seen(buffer.getvalue())
    size = limit_side(301, 203, max_side)
    assert seen.shape[:2] == size == limit_side(*size, max_side)
    np.testing.assert_array_equal(seen, resize_rgb(decode_rgb(buffer.getvalue()), *size))
