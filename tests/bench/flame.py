"""``python -m tests.bench.flame``: a flame graph of all stages, and what each kind of work takes.

py-spy, which Ray brings, watches a probe (:mod:`dcsp.probe`): the stages of a run on 16
photographs in one process. Writes an SVG and prints the share of samples of each function named in
:data:`WORK`, with all that it calls.
"""

from __future__ import annotations

import argparse
import html
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.bench.growth import ALL, Variant, base, measure
from tests.bench.inputs import Inputs

SAMPLES_PER_SECOND = 200
WORK = {
    "saliency": {
        "decode and resize": ("decode (dcsp/saliency/table.py)",),
        "detector": ("__call__ (dcsp/saliency/detector.py)",),
        "erase, combine": ("hierarchical_saliency (dcsp/saliency/hierarchy.py)",),
        "encode": ("finish (dcsp/saliency/table.py)",),
    },
}
_FRAME = re.compile(r"<title>(.+?) \(([\d,]+) samples, [\d.]+%\)</title>")
