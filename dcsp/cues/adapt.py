"""Cues of adaptation: what the jointly trained network itself sees, among the tags (paper 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.fusion import adapt_labels, refine_adapted
from dcsp.cues.stage import CueStage, Infer, Row
from dcsp.cues.table import CueRow
from dcsp.inference.multiscale import Views, score_views
from dcsp.inference.scores import to_half
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey

VERSION = 2


@dataclass(frozen=True)
class AdaptStage(CueStage):
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

    method = "adapt"

    @property
    def given_key(self) -> StageKey:
        """Settings and network decide the cues."""
        settings = self.config.cues.adapt
        return StageKey(
            "cues",
            VERSION,
            settings={
                "method": self.method,
                "phase": self.phase,
                **settings.model_dump(mode="json", exclude={"rounds"}),
                **self.images.key(settings.crf),
            },
            inputs={"network": self.network.fingerprint},
        )

    @property
    def needs_image(self) -> bool:
        """For the CRF."""
        return self.config.cues.adapt.crf

    def load_infer(self, store: Store, device: Device) -> Infer:
        """Fused scores."""
        precision = self.images.precision
        network = self.network_of(self.network, SegmentationNetwork, store, device)
        views = Views.of(self.config.cues.adapt)

        def infer(images: list[NDArray[np.uint8]], _: list[Row]) -> list[bytes]:
            maps = score_views(
                network, images, views, max_side=None, precision=precision, device=device.name
            )
            return [pack_array(to_half(scores)) for scores in maps]

        return infer

    def cue(self, row: Row) -> CueRow:
        """Argmax among background and tags at image size."""
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
