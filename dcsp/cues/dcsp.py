"""Cues of DCSP: hierarchical saliency × attention (paper 4.1, 4.2), or attention alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import DCSPSettings, RunConfig
from dcsp.cues.attention import attention_views, tag_attention
from dcsp.cues.fusion import discover, fuse, refine_cue, to_image
from dcsp.cues.table import (
    CORPUS_COLUMNS,
    CueImages,
    CueRow,
    CueWriter,
    cue_key,
    tagged_corpus,
)
from dcsp.inference.multiscale import prepare, score_views
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableInput
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_map, decode_maps, encode_maps, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES, ERROR, OK

VERSION = 2
_EVERYWHERE = np.ones((1, 1), np.float32)


@dataclass(frozen=True)
class DCSPStage:
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

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """Settings, network and saliency decide the cues."""
        key = StageKey(
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
        return cue_key(key, self.selftags)

    @property
    def method(self) -> str:
        """Name in the table."""
        return "dcsp" if self.saliency else "attention"

    @property
    def schema(self) -> pa.Schema:
        """See :data:`dcsp.tables.schemas.CUES`."""
        return CUES

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """Corpus and saliency."""
        return (*tagged_corpus(self.selftags), *self._saliency_input("maps", "status", "error"))

    @property
    def evidence_inputs(self) -> tuple[TableInput, ...]:
        """The attention of its own table, and saliency."""
        columns = ("attention", "attention_shape", "status", "error")
        own = TableInput("start", self.key.directory, columns)
        return (own, *self._saliency_input("maps"))

    def evidence(self, row: dict[str, Any]) -> NDArray[np.float32]:
        """Means of attention and saliency, nHW, at the size the network saw."""
        attention, saliency = self._at_image(
            row, row["start.attention"], row["start.attention_shape"]
        )
        return fuse(attention, saliency, self.settings.mean)

    def _saliency_input(self, *columns: str) -> tuple[TableInput, ...]:
        return (TableInput("saliency", self.saliency.directory, columns),) if self.saliency else ()

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds the attention of the tagged classes to the rows."""
        settings = self.settings.attention
        precision = self.images.precision
        network = prepare(
            load_checkpoint(store, self.network.directory, SegmentationNetwork),
            precision,
            device.name,
        )
        views = attention_views(settings)

        def model(rows: pa.Table) -> pa.Table:
            tags: list[Any] = rows["tags"].to_pylist()

            def infer(images: list[NDArray[np.uint8]], numbers: list[int]) -> list[bytes]:
                volumes = score_views(
                    network, images, views, max_side=None, precision=precision, device=device.name
                )
                return [
                    pack_array(tag_attention(volume, tags[i], settings))
                    for volume, i in zip(volumes, numbers, strict=True)
                ]

            wanted = [bool(t) for t in tags]
            if self.saliency:
                usable = [status == OK for status in rows["saliency.status"].to_pylist()]
                wanted = [w and ok for w, ok in zip(wanted, usable, strict=True)]
            results = infer_rows(rows, self.images.decode, infer, wanted=wanted, device=device)
            kept = CORPUS_COLUMNS if self.settings.crf else CORPUS_COLUMNS[:-1]
            of_saliency = [name for name in rows.column_names if name.startswith("saliency.")]
            return (
                rows.select([*kept, *of_saliency])
                .append_column("raw", pa.array(results.values, pa.large_binary()))
                .append_column("status", pa.array(results.statuses()))
                .append_column("error", pa.array(results.errors, pa.string()))
            )

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Fuse attention and saliency at image size."""
        writer = CueWriter(self.method, self.phase)
        for row in rows.to_pylist():
            writer.add(row, row["status"], self._cue(row))
        return writer.table()

    def _cue(self, row: dict[str, Any]) -> CueRow:
        if row["tags"] and row.get("saliency.status") == ERROR:
            return CueRow(error=f"saliency: {row['saliency.error']}")
        if row["raw"] is None:
            return CueRow(error=row["error"])
        attention, shape = encode_maps(unpack_array(row["raw"]))
        return CueRow(self.label(row, attention, shape), attention, shape)

    def label(
        self,
        row: dict[str, Any],
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
        self, row: dict[str, Any], attention: NDArray[np.float32], saliency: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Algorithm 1, with the dense CRF where the settings ask for it.

        Args:
            row: ``tags``, and ``bytes`` for the CRF.
            attention: nHW float32 in [0, 1], one map a tag.
            saliency: HW float32 in [0, 1].
        """
        low, high, mean = self.settings.gamma_low, self.settings.gamma_high, self.settings.mean
        if not self.settings.crf:
            return discover(attention, saliency, row["tags"], low, high, mean)
        image = self.images.decode(row["bytes"])
        return refine_cue(image, attention, saliency, row["tags"], low, high, self.images.crf, mean)

    def _at_image(
        self,
        row: dict[str, Any],
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
