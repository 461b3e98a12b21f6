"""Real images that real decoders die of: a process that finds this folder's plugin has them.

Python imports ``sitecustomize`` at its start, in the process that decodes as in any other: there
it breaks Pillow's decoder of PPM, for images whose first pixel says how.
"""

from __future__ import annotations

from pathlib import Path

WAYS = ("crashes", "hangs", "waits", "eats")
"""Ways of a decoder to end badly: a segmentation fault, a loop, a wait, memory without end."""

_PLUGIN = f"""
import ctypes, time
from PIL import Image, PpmImagePlugin

WAYS = {WAYS!r}

class Broken(PpmImagePlugin.PpmImageFile):
    def load(self):
        found = super().load()
        first = self.im.getpixel((0, 0))[0]
        way = WAYS[first - 250] if 250 <= first < 250 + len(WAYS) else ""
        if way == "crashes":
            ctypes.string_at(0)
        while way == "hangs":
            pass
        if way == "waits":
            time.sleep(1000)
        held = []
        while way == "eats":
            held.append(bytes(2**28))
        return found

Image.preinit()
Image.register_open("PPM", Broken, PpmImagePlugin._accept)
"""


def install(folder: Path) -> str:
    """Write the plugin into a folder; the folder, for ``PYTHONPATH``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_PLUGIN)
    return str(folder)


def image(way: str = "") -> bytes:
    """A PPM of 4 × 4 pixels; a good one where no way is named."""
    first = 250 + WAYS.index(way) if way else 0
    return b"P6 4 4 255 " + bytes([first] * 48)
