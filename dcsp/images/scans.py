"""Scans of a JPEG, counted by its markers: each is a pass over all pixels, for a few bytes."""

from __future__ import annotations

import re

MOST = 100
"""Scans that a JPEG may have: encoders make about ten, and no more help anybody."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # no stuffed byte, no restart
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)  # start of a frame that is not progressive


def has_too_many_scans(jpeg: bytes) -> bool:
    """Whether the first image of a JPEG file has more than :data:`MOST` scans.

    Where the first scan holds all components and is not refined, as in most photographs, a decoder
    ends with it, and nothing further is looked at.
    """
    position = scans = 0
    components = b""
    while found := _MARKER.search(jpeg, position):
        position, marker = found.end(), found.group(1)[0]
        if marker == _EOI:
            return False
        if marker in _SEQUENTIAL:
            components = jpeg[position + 7 : position + 8]
        if marker == _SOS:
            scans += 1
            is_whole = bool(components) and jpeg[position + 2 : position + 3] == components
            if scans == 1 and is_whole:
                return False
            if scans > MOST:
                return True
        if marker not in (_SOI, _TEM):
            position += int.from_bytes(jpeg[position : position + 2], "big")
    return False
