"""The table of superpixels: cut once, used by every round of MCOF (method 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from dcsp.config import RunConfig
from dcsp.cues.table import CueImages
from dcsp.methods.mcof.superpixels import superpixels
from dcsp.stages.parts import CORPUS_INPUT
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_regions
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD, HEAD_COLUMNS, STATUS

VERSION = 1

SUPERPIXELS = pa.schema([*HEAD, pa.field("regions", pa.binary()), *STATUS])
"""Superpixels: ``regions`` a grey PNG (8 or 16 bits) of region ids from 0, at the size the network
sees the image at."""


@dataclass(frozen=True)
class SuperpixelStage(TableStage):
    """Felzenszwalb's superpixels of every image, at the size the network sees it at."""

    config: RunConfig

    schema = SUPERPIXELS
    libraries = ("numpy", "pillow", "scikit-image")
    inputs = (CORPUS_INPUT.without("tags"),)

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """Their settings and the size of the images decide the superpixels."""
        settings = self.config.cues.mcof.superpixels.model_dump(mode="json")
        return StageKey("superpixels", VERSION, settings | {"max_side": self.images.max_side})

    def load(self, store: Store, device: Device) -> PartModel:
        """No model is needed; superpixels are cut where models would run."""
        settings = self.config.cues.mcof.superpixels

        def model(rows: pa.Table) -> pa.Table:
            results = infer_rows(
                rows,
                self.images.decode,
                lambda images, _: [encode_regions(superpixels(i, settings)) for i in images],
                device=Device(threads=device.threads),  # no model, no GPU
            )
            return results.onto(rows.select(HEAD_COLUMNS), "regions", type_=pa.binary())

        return model
