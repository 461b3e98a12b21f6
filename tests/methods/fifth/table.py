"""A table of the method's own: how much each pixel differs from its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.table import CueImages
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_map
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD, HEAD_COLUMNS, STATUS

VERSION = 1
CONTRAST = pa.schema([*HEAD, pa.field("contrast", pa.binary()), *STATUS])
"""``contrast``: an 8-bit grey PNG at the size the network sees the image at."""


def contrast(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Largest change of grey to the pixel before, in [0, 1], of an HWC image: HW."""
    grey = image.astype(np.float32).mean(axis=-1) / 255.0
    changes = [np.abs(np.diff(grey, axis=axis, prepend=grey.take([0], axis))) for axis in (0, 1)]
    largest: NDArray[np.float32] = np.maximum(*changes)
    return largest


@dataclass(frozen=True)
class ContrastStage(TableStage):
    """Contrast of every image."""

    config: RunConfig

    schema = CONTRAST

    @property
    def key(self) -> StageKey:
        """The size of the images decides it."""
        return StageKey("contrast", VERSION, {"max_side": self.config.network.max_side})

    def load(self, store: Store, device: Device) -> PartModel:
        """No model is needed; the work is done where models would run."""
        decode = CueImages.of(self.config).decode

        def model(rows: pa.Table) -> pa.Table:
            found = infer_rows(rows, decode, lambda i, _: [encode_map(contrast(x)) for x in i])
            kept = rows.select(HEAD_COLUMNS)
            return found.onto(kept, "contrast", type_=pa.binary())

        return model
