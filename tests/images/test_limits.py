"""Small files take little memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_rgb, probe_size
from tests.images.pictures import encode, smooth


@pytest.mark.parametrize(("format_", "fits"), [("PNG", True), ("WEBP", False), ("AVIF", False)])
def test_formats_that_take_more_memory_may_have_fewer_pixels(format_: str, fits: bool) -> None:
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow does not know {format_}")
    data = encode(smooth(20, 30), format_)
    for read in (decode_rgb, check_image, probe_size):
        if fits:
            read(data, max_pixels=600)
        else:
            with pytest.raises(ImageError, match=f"1/2 of corpus.max_pixels=600, for {format_}"):
                read(data, max_pixels=600)
        read(data, max_pixels=1200)


PEAK = """
import resource, sys
from dcsp.images import decode
from dcsp.errors import ImageError
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    getattr(decode, sys.argv[1])(data)
except ImageError as error:
    assert error.reason == "oversized", error
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="counts in other units")
@pytest.mark.parametrize(
    ("format_", "mode", "checked", "decoded"),
    [
        ("PNG", "I;16", 2, 5),  # took 25
        ("PNG", "RGB", 4, 7),
        ("PNG", "RGBA", 4, 7),
        ("AVIF", "RGB", 13, 16),
        ("WEBP", "RGB", 13, 16),
    ],
)
def test_a_small_file_takes_little_memory(
    format_: str, mode: str, checked: int, decoded: int
) -> None:
    """Bytes a pixel, beside 40 MiB for the strips and for code that is loaded meanwhile."""
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow does not know {format_}")
    options = {"AVIF": {"speed": 10}, "WEBP": {"lossless": True, "quality": 0}}
    data = encode(Image.new(mode, (4000, 4000)), format_, **options.get(format_, {}))
    assert len(data) < 100_000
    for function, most in (("check_image", checked), ("decode_rgb", decoded)):
        command = [sys.executable, "-c", PEAK, function]
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        assert float(done.stdout) < most * 4000**2 / 2**20 + 40, function
