"""Cues of DCSP: hierarchical saliency × attention (paper 4.1, 4.2), or attention alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.config import DCSPSettings, RunConfig
from dcsp.cues.attention import attention_views, tag_attention
from dcsp.cues.fusion import algorithm_1, fuse, to_image
from dcsp.cues.stage import EvidenceStage, Infer, Relabelling, Row
from dcsp.cues.table import CueRow
from dcsp.inference.multiscale import score_views
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.parts import CORPUS_INPUT, TableInput
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_map, decode_maps, encode_maps, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import ERROR, OK

VERSION = 2
_EVERYWHERE = np.ones((1, 1), np.float32)


@dataclass(frozen=True)
class DCSPStage(EvidenceStage):
    """Attention of a network, fused with S_k; without saliency, as if all were salient.

    Attributes:
        config: Settings of the run.
        settings: Of these cues; not always those the run trains on.
        network: Key of the training of the network that attends: in phase 0 the FCAN.
        saliency: Key of the saliency table; None where the settings use none.
        phase: From 0.
        selftags: Key of the self-tags to mine by; None: by given tags.
    """

    config: RunConfig
    settings: DCSPSettings
    network: StageKey
    saliency: StageKey | None
    phase: int = 0
    selftags: StageKey | None = None

    @property
    def given_key(self) -> StageKey:
        """Settings, network and saliency decide the cues."""
        return StageKey(
            "cues",
            VERSION,
            settings={
                "method": "dcsp",
                **({"phase": self.phase} if self.phase else {}),
                **self.settings.model_dump(mode="json"),
                **self.images.key(self.settings.crf),
            },
            inputs={
                "network": self.network.fingerprint,
                **({"saliency": self.saliency.fingerprint} if self.saliency else {}),
            },
        )

    @property
    def method(self) -> str:
        """Name in the table."""
        return "dcsp" if self.saliency else "attention"

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """Saliency."""
        return self._saliency_input("maps", "status", "error")

    @property
    def evidence_inputs(self) -> tuple[TableInput, ...]:
        """The attention of its own table, and saliency."""
        return (*super().evidence_inputs, *self._saliency_input("maps"))

    def evidence(self, row: Row) -> NDArray[np.float32]:
        """Means of attention and saliency, nHW, at the size the network saw.

        Without saliency attention itself, and not its mean with a saliency of 1.
        """
        attention, saliency = self._at_image(
            row, row["start.attention"], row["start.attention_shape"]
        )
        if self.saliency is None:
            return attention
        return fuse(attention, saliency, self.settings.mean)

    def first_pass(self) -> Relabelling | None:
        """The same attention with S_1 in place of S_k."""
        if self.saliency is None:
            return None
        corpus = CORPUS_INPUT if self.settings.crf else CORPUS_INPUT.without("bytes")

        def label(row: Row) -> NDArray[np.uint8]:
            return self.label(row, row["start.attention"], row["start.attention_shape"], 1)

        return Relabelling((corpus, *self.evidence_inputs), label)

    def _saliency_input(self, *columns: str) -> tuple[TableInput, ...]:
        return (TableInput("saliency", self.saliency.directory, columns),) if self.saliency else ()

    @property
    def needs_image(self) -> bool:
        """For the CRF."""
        return self.settings.crf

    def wants(self, row: Row) -> bool:
        """Tagged images, where saliency is there or not needed."""
        return bool(row["tags"]) and row.get("saliency.status", OK) == OK

    def load_infer(self, store: Store, device: Device) -> Infer:
        """The attention of the tagged classes."""
        settings, precision = self.settings.attention, self.images.precision
        network = self.network_of(self.network, SegmentationNetwork, store, device)
        views = attention_views(settings)

        def infer(images: list[NDArray[np.uint8]], rows: list[Row]) -> list[bytes]:
            volumes = score_views(
                network, images, views, max_side=None, precision=precision, device=device.name
            )
            return [
                pack_array(tag_attention(volume, row["tags"], settings))
                for volume, row in zip(volumes, rows, strict=True)
            ]

        return infer

    def cue(self, row: Row) -> CueRow:
        """Attention and saliency fused at image size."""
        if row["tags"] and row.get("saliency.status") == ERROR:
            return CueRow(error=f"saliency: {row['saliency.error']}")
        if row["raw"] is None:
            return CueRow(error=row["error"])
        attention, shape = encode_maps(unpack_array(row["raw"]))
        return CueRow(self.label(row, attention, shape), attention, shape)

    def label(
        self,
        row: Row,
        attention: bytes,
        shape: tuple[int, ...],
        saliency_pass: int | None = None,
    ) -> NDArray[np.uint8]:
        """The cue of one row from what the tables hold: attention and one S_k.

        Args:
            row: ``height``, ``width``, ``tags``, ``saliency.maps``, and ``bytes`` for the CRF.
            attention: Stacked maps as in a cue table.
            shape: Their shape.
            saliency_pass: k; left out: that of the settings.

        Returns:
            Label map (HW uint8) at the size the network saw the image at.
        """
        full, saliency = self._at_image(row, attention, shape, saliency_pass)
        return self.discovered(row, full, saliency)

    def discovered(
        self, row: Row, attention: NDArray[np.float32], saliency: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Algorithm 1, with the dense CRF where the settings ask for it.

        Args:
            row: ``tags``, and ``bytes`` for the CRF.
            attention: nHW float32 in [0, 1], one map a tag.
            saliency: HW float32 in [0, 1].
        """
        crf = self.images.crf if self.settings.crf else None
        return algorithm_1(
            attention,
            saliency,
            row["tags"],
            self.settings,
            lambda: self.images.decode(row["bytes"]),
            crf,
        )

    def _at_image(
        self,
        row: Row,
        attention: bytes,
        shape: tuple[int, ...],
        saliency_pass: int | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Attention (nHW) and saliency (HW) of a row at the size the network saw it at."""
        chosen = _EVERYWHERE
        if self.saliency:
            number = saliency_pass or self.settings.saliency_pass
            chosen = decode_map(row["saliency.maps"][number - 1])
        size = self.images.inner_size(row["height"], row["width"])
        normalize = self.settings.attention.source == "fcan"
        return to_image(decode_maps(attention, shape), chosen, *size, normalize)
