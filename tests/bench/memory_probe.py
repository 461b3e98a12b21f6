"""``python -m tests.bench.memory_probe FOLDER IMAGES``: peaks of an actor and a driver, in bytes.

A process of its own: the most memory that a process ever had does not go down again.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from dcsp.config import ClusterSettings, DetectorSettings
from dcsp.saliency.table import SaliencyStage
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from jobs import _cluster
from tests.bench.stages import Marks
from tests.bench.stubs import WeighedStage, image_ids, part_names, peak_memory
from tests.chain import write_detector

ROWS = 16
HEIGHT, WIDTH = 375, 500


def main(folder: Path, images: int) -> None:
    """Mine saliency of so many images and print the peaks."""
    store = Store(str(folder / f"memory{images}"))
    parts = part_names(images // ROWS, ROWS)
    data = _photograph()
    for number, part in enumerate(parts):
        rows = image_ids(number, ROWS)
        for name, value in {"height": HEIGHT, "width": WIDTH}.items():
            rows = rows.append_column(name, pa.array([value] * ROWS, pa.int32()))
        rows = rows.append_column("bytes", pa.array([data] * ROWS, pa.large_binary()))
        store.write_table(part_file(CORPUS_DIRECTORY, part.name), rows)
    detector = write_detector(folder / "brightness.onnx")
    card = DetectorSettings(model=detector, height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1))
    saliency = SaliencyStage(card, (0.7, 0.8), "bench", 10**8)
    settings = ClusterSettings(actors=2)
    with tempfile.TemporaryDirectory() as notes, Marks("memory", images) as marks:
        stage = WeighedStage(saliency, notes)
        _cluster.map_parts(store, stage, parts, _cluster.connect(settings), settings, marks)
        _cluster.disconnect()
        print(stage.heaviest(), peak_memory())


def _photograph() -> bytes:
    """A JPEG that decodes to a photograph's size."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=90)
    return sink.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
