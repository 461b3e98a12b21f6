"""Scans of a JPEG, counted by its markers: each is a pass over all pixels, for a few bytes."""

from __future__ import annotations

import re

MOST = 100
"""Scans that a JPEG may have: encoders make about ten, and no more help anybody."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # no stuffed byte, no restart
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01


def has_too_many_scans(jpeg: bytes) -> bool:
    """Whether the first image of a JPEG file has more than :data:`MOST` scans."""
    position = scans = 0
    while found := _MARKER.search(jpeg, position):
        position, marker = found.end(), found.group(1)[0]
        if marker == _EOI:
            return False
        scans += marker == _SOS
        if scans > MOST:
            return True
        if marker not in (_SOI, _TEM):
            position += int.from_bytes(jpeg[position : position + 2], "big")
    return False
