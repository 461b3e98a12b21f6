"""The predictions table: pixel labels of every image, with and without the CRF (method 1.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import PrecisionSettings, PredictSettings, RunConfig
from dcsp.images.decode import decode_rgb
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.inference.prediction import predict_labels
from dcsp.inference.scores import to_half
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD_COLUMNS, PREDICTIONS

VERSION = 2


@dataclass(frozen=True)
class PredictionStage(TableStage):
    """Fused views, probabilities, CRF, argmax; tags are carried along and never looked at.

    Attributes:
        settings: Views, CRF.
        precision: Arithmetic.
        max_side: Longest side the network sees an image at.
        max_pixels: Decoding limit.
        network: Directory of the checkpoint whose network is used; it ends in its fingerprint.
        model_store: Store that holds the network, where it is not the store of the table.
    """

    settings: PredictSettings
    precision: PrecisionSettings
    max_side: int | None
    max_pixels: int
    network: str
    model_store: Store | None = None

    schema = PREDICTIONS

    @classmethod
    def of(
        cls, config: RunConfig, network: str, model_store: Store | None = None
    ) -> PredictionStage:
        """By the settings of a run."""
        side, pixels = config.network.max_side, config.corpus.max_pixels
        return cls(config.predict, config.precision, side, pixels, network, model_store)

    @cached_property
    def key(self) -> StageKey:
        """Settings and network decide the predictions; which splits are labelled does not."""
        settings = self.settings.model_dump(mode="json", exclude={"splits"})
        if not self.settings.crf:
            del settings["crf_settings"]
        return StageKey(
            "predictions",
            VERSION,
            settings={**settings, "precision": self.precision.model_dump(mode="json")},
            inputs={"network": PurePosixPath(self.network).name},
        )

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds fused scores to the rows."""
        network = prepare(
            load_checkpoint(self.model_store or store, self.network, SegmentationNetwork),
            self.precision,
            device.name,
        )
        views = Views.of(self.settings)

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[bytes]:
            maps = score_views(
                network,
                images,
                views,
                max_side=self.max_side,
                precision=self.precision,
                device=device.name,
            )
            return [pack_array(to_half(scores)) for scores in maps]

        def model(rows: pa.Table) -> pa.Table:
            results = infer_rows(rows, self._decode, infer, device=device)
            return results.onto(rows)

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Upsample, probabilities, CRF, encode."""
        return pa.Table.from_pylist([self._row(row) for row in rows.to_pylist()], PREDICTIONS)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = {name: row[name] for name in (*HEAD_COLUMNS, "tags", "status", "error")}
        if row["raw"] is None:
            return kept
        scores = unpack_array(row["raw"]).astype(np.float32)
        found = predict_labels(
            scores,
            row["height"],
            row["width"],
            self.settings,
            lambda: self._decode(row["bytes"]),
            self.max_side,
        )
        label = encode_labels(found.label)
        same = found.label_without_crf is found.label
        return kept | {
            "label": label,
            "label_without_crf": label if same else encode_labels(found.label_without_crf),
            "areas": found.areas,
        }

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        return decode_rgb(data, self.max_pixels)
