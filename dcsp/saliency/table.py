"""The saliency table: S_1 … S_K of every image (paper 4.2), made once and reused by every run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import DetectorSettings
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import resize_rgb, shrink_map
from dcsp.networks.weights import resolve_weights
from dcsp.saliency.detector import SaliencyDetector
from dcsp.saliency.ensemble import DetectorEnsemble
from dcsp.saliency.hierarchy import hierarchical_saliency
from dcsp.stages.parts import CORPUS_INPUT
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_levels, pack_array, quantize, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD_COLUMNS, SALIENCY

VERSION = 2
MAP_SIDE = 320
"""Longest side in pixels of the maps that are kept; those of U²-Net have it."""
PLACE_ALONE = {"model", "sha256"}
"""Detector settings that say where the file lies; its digest alone decides the table."""


@dataclass(frozen=True)
class SaliencyStage(TableStage):
    """Image by image: decode, K detector passes with erasing in between, 8-bit maps.

    Attributes:
        cards: Of the detectors.
        thresholds: Erasing threshold after each pass but the last.
        digests: sha256 of each detector.
        max_pixels: Decoding limit of the corpus.
    """

    cards: tuple[DetectorSettings, ...]
    thresholds: tuple[float, ...]
    digests: tuple[str, ...]
    max_pixels: int

    schema = SALIENCY
    libraries = ("numpy", "onnxruntime", "pillow", "torch")
    inputs = (CORPUS_INPUT.without("tags"),)

    @property
    def key(self) -> StageKey:
        """Settings of the cards, thresholds and the detectors' digests decide the table.

        One detector alone is said as it was when there could be no others: tables stay.
        """
        cards = [card.decisive(PLACE_ALONE) for card in self.cards]
        names = [f"detector{number or ''}" for number in range(len(cards))]
        side = max(max(card.height, card.width) for card in self.cards)
        return StageKey(
            "saliency",
            VERSION,
            settings={
                **dict(zip(names, cards, strict=True)),
                "thresholds": list(self.thresholds),
                **({"map_side": MAP_SIDE} if side > MAP_SIDE else {}),
            },
            weights=dict(zip(names, self.digests, strict=True)),
        )

    def load(self, store: Store, device: Device) -> PartModel:
        """Fetch and load the detectors."""
        detectors = [
            SaliencyDetector(
                resolve_weights(card.model, card.sha256 or digest),
                card,
                device=device.name,
                threads=device.threads,
            )
            for card, digest in zip(self.cards, self.digests, strict=True)
        ]
        on_gpu = all(detector.device != "cpu" for detector in detectors)
        where = device if on_gpu else Device(threads=device.threads)
        ensemble = DetectorEnsemble(detectors, self.cards)
        size = (ensemble.height, ensemble.width)

        def decode(data: bytes) -> np.ndarray:
            return resize_rgb(decode_rgb(data, self.max_pixels, at_least=size), *size)

        def infer(images: list[np.ndarray], _: list[int]) -> list[bytes]:
            maps = hierarchical_saliency(images, ensemble, self.thresholds)
            return [pack_array(quantize(shrink_map(levels, MAP_SIDE))) for levels in maps]

        def model(rows: pa.Table) -> pa.Table:
            results = infer_rows(rows, decode, infer, device=where)
            return results.onto(rows.select(HEAD_COLUMNS))

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Encode the maps as PNG."""
        maps = [
            None if raw is None else _encode(unpack_array(raw)) for raw in rows["raw"].to_pylist()
        ]
        return rows.drop_columns("raw").append_column("maps", pa.array(maps, pa.list_(pa.binary())))


def _encode(levels: NDArray[np.uint8]) -> list[bytes]:
    """Each of KHW maps; those of a pass that found nothing more are those of the pass before."""
    encoded: list[bytes] = []
    for number, level in enumerate(levels):
        same = number > 0 and np.array_equal(level, levels[number - 1])
        encoded.append(encoded[-1] if same else encode_levels(level))
    return encoded
