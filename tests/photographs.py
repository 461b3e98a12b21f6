"""Real photographs, which are not part of this repository: a PASCAL VOC root that a variable names.

``DCSP_PHOTOGRAPHS=/data/VOCdevkit/VOC2012 make test`` runs the tests and benches that need them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "DCSP_PHOTOGRAPHS"
PHOTOGRAPHS = Path(os.environ.get(VARIABLE) or "/nonexistent")
"""Root of a VOC layout: ``JPEGImages``, ``SegmentationClass``, ``ImageSets``."""
JPEGS = PHOTOGRAPHS / "JPEGImages"

needs_photographs = pytest.mark.skipif(
    not JPEGS.is_dir(), reason=f"needs photographs: name a VOC root in {VARIABLE}"
)
"""Mark of a test that looks at them."""
