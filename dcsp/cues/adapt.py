"""Cues of adaptation: what the jointly trained network itself sees, among the tags (paper 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.fusion import adapt_labels, refine_adapted
from dcsp.cues.table import (
    CORPUS_COLUMNS,
    CueImages,
    CueRow,
    CueWriter,
    cue_key,
    tagged_corpus,
)
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.inference.scores import to_half
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableInput
from dcsp.store.store import Store
from dcsp.tables.codecs import pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES

VERSION = 2


@dataclass(frozen=True)
class AdaptStage:
    """Phases 1, 2 …: the network's labels among background and tags; other classes cannot win.

    Attributes:
        config: Settings of the run.
        network: Key of the joint training of the phase before.
        phase: From 1.
        selftags: Key of the self-tags to mine by; None: by given tags.
    """

    config: RunConfig
    network: StageKey
    phase: int
    selftags: StageKey | None = None

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """Settings and network decide the cues."""
        settings = self.config.cues.adapt
        key = StageKey(
            "cues",
            VERSION,
            settings={
                "method": "adapt",
                "phase": self.phase,
                **settings.model_dump(mode="json", exclude={"rounds"}),
                **self.images.key(settings.crf),
            },
            inputs={"network": self.network.fingerprint},
        )
        return cue_key(key, self.selftags)

    @property
    def schema(self) -> pa.Schema:
        """See :data:`dcsp.tables.schemas.CUES`."""
        return CUES

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """The corpus alone: adaptation needs no saliency."""
        return tagged_corpus(self.selftags)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds fused scores to the rows."""
        settings = self.config.cues.adapt
        precision = self.images.precision
        network = prepare(
            load_checkpoint(store, self.network.directory, SegmentationNetwork),
            precision,
            device.name,
        )
        views = Views.of(settings)

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[bytes]:
            maps = score_views(
                network, images, views, max_side=None, precision=precision, device=device.name
            )
            return [pack_array(to_half(scores)) for scores in maps]

        def model(rows: pa.Table) -> pa.Table:
            wanted = [bool(tags) for tags in rows["tags"].to_pylist()]
            results = infer_rows(rows, self.images.decode, infer, wanted=wanted, device=device)
            return (
                rows.select(CORPUS_COLUMNS if settings.crf else CORPUS_COLUMNS[:-1])
                .append_column("raw", pa.array(results.values, pa.large_binary()))
                .append_column("status", pa.array(results.statuses()))
                .append_column("error", pa.array(results.errors, pa.string()))
            )

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Argmax among background and tags at image size."""
        writer = CueWriter("adapt", self.phase)
        for row in rows.to_pylist():
            writer.add(row, row["status"], self._cue(row))
        return writer.table()

    def _cue(self, row: dict[str, Any]) -> CueRow:
        if row["raw"] is None:
            return CueRow(error=row["error"])
        scores = unpack_array(row["raw"]).astype(np.float32)
        settings = self.config.cues.adapt
        if settings.crf:
            image = self.images.decode(row["bytes"])
            return CueRow(
                refine_adapted(image, scores, row["tags"], self.images.crf, settings.fuse)
            )
        size = self.images.inner_size(row["height"], row["width"])
        return CueRow(adapt_labels(scores, row["tags"], *size))
