"""How cue stages see images, whatever their size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dcsp.config import CRFSettings, PrecisionSettings
from dcsp.cues.table import CueImages


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("height", "width"), [(3001, 4000), (301, 150), (64, 48), (9, 4001)])
def test_an_image_is_seen_at_the_size_that_its_row_says(
    height: int, width: int, orientation: int
) -> None:
    # JPEGs are decoded at a half or less of their size, which rounds to another shape.
    seen = CueImages(10**8, 128, PrecisionSettings(), CRFSettings())
    file = io.BytesIO()
    pixels: np.ndarray = np.zeros((height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    upright = (width, height) if orientation == 6 else (height, width)
    image = seen.decode(file.getvalue())
    assert image.shape == (*seen.inner_size(*upright), 3)
    assert image.flags.writeable


def test_an_image_that_fits_is_not_resized() -> None:
    seen = CueImages(10**8, None, PrecisionSettings(), CRFSettings())
    pixels: np.ndarray = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert np.array_equal(seen.decode(file.getvalue()), pixels)
