"""The table of built-in foreground, from a classifier's own activations (method 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.table import CueImages
from dcsp.images.resize import resize_map
from dcsp.inference.multiscale import on_grid, prepare
from dcsp.methods.builtin.foreground import foreground_mask, fuse_activations
from dcsp.networks.model import Model, start_backbone
from dcsp.networks.precision import autocast
from dcsp.networks.weights import backbone_digest, backbone_weights
from dcsp.stages.parts import CORPUS_INPUT
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_map, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import SALIENCY

VERSION = 3
CELL = 8
"""Pixels of an image per pixel of the stored foreground map."""
MAP, MASK = 1, 2
"""Which of the two stored maps is which, counted as S_k is."""


@dataclass(frozen=True)
class ForegroundStage(TableStage):
    """Two maps an image: the fused activations, and the same after a dense CRF of two labels.

    The table has the schema of saliency, in whose place it stands.

    Attributes:
        config: Settings of the run.
    """

    config: RunConfig

    schema = SALIENCY
    inputs = (CORPUS_INPUT.without("tags"),)

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """The backbone as it comes, the size of the images and the CRF decide the maps."""
        settings, network = self.config.cues.builtin, self.config.network
        return StageKey(
            "foreground",
            VERSION,
            settings={
                "backbone": network.backbone,
                "output_stride": network.output_stride,
                "max_side": network.max_side,
                "sign": settings.sign,
                "mask_threshold": settings.mask_threshold,
                **self.images.key(uses_crf=True),
            },
            weights={"backbone": backbone_digest(network)},
            seed=self.config.seed if network.weights == "random" else None,
        )

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the backbone; the model adds the fused activations to the rows."""
        network, precision = self.config.network, self.images.precision
        torch.manual_seed(self.config.seed)
        weights = backbone_weights(network, self.key.weights["backbone"])
        backbone = start_backbone(network, weights)
        model_ = prepare(Model(backbone, network.backbone), precision, device.name)

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[bytes]:
            return [pack_array(self._activations(model_, i, device.name)) for i in images]

        def model(rows: pa.Table) -> pa.Table:
            results = infer_rows(rows, self.images.decode, infer, device=device)
            return results.onto(rows)

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """The CRF, and PNGs."""
        maps = [self._maps(row) for row in rows.to_pylist()]
        return rows.drop_columns(["raw", "bytes"]).append_column(
            "maps", pa.array(maps, pa.list_(pa.binary()))
        )

    def _activations(
        self, model: Model, image: NDArray[np.uint8], device: str
    ) -> NDArray[np.float32]:
        pixels = on_grid(image, model.output_stride)
        with torch.inference_mode(), autocast(self.images.precision, device):
            *_, fourth, fifth = model.convolutions(pixels.to(device))
        size = (-(-image.shape[0] // CELL), -(-image.shape[1] // CELL))
        return fuse_activations(fourth[0], fifth[0], *size, sign=self.config.cues.builtin.sign)

    def _maps(self, row: dict[str, Any]) -> list[bytes] | None:
        if row["raw"] is None:
            return None
        small = unpack_array(row["raw"])
        image = self.images.decode(row["bytes"])
        full = resize_map(small, *image.shape[:2])
        mask = foreground_mask(
            image, full, self.images.crf, self.config.cues.builtin.mask_threshold
        )
        return [encode_map(small), encode_map(mask.clip(0.0, 1.0))]
