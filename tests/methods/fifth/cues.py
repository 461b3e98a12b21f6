"""The method's cues: labels of the helper network among the tags, where there is contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.fusion import adapt_labels
from dcsp.cues.stage import CueStage, Infer, Row
from dcsp.cues.table import CueRow
from dcsp.inference.multiscale import on_grid
from dcsp.inference.scores import to_half
from dcsp.labels import IGNORE
from dcsp.networks.precision import autocast
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_map, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from tests.methods.fifth.network import PixelNetwork

VERSION = 1


@dataclass(frozen=True)
class ContrastCues(CueStage):
    """Cues of phase 0.

    Attributes:
        config: Settings of the run.
        network: Key of the helper network's training.
        contrast: Key of the table of contrast.
        selftags: Key of the self-tags to mine by; None: by given tags.
    """

    config: RunConfig
    network: StageKey
    contrast: StageKey
    selftags: StageKey | None = None

    method = "contrast"

    @property
    def given_key(self) -> StageKey:
        """Everything that decides the cues."""
        least = self.config.cues.contrast.least  # type: ignore[attr-defined]
        inputs = {"network": self.network.fingerprint, "contrast": self.contrast.fingerprint}
        settings = {"method": self.method, "least": least, **self.images.key(uses_crf=False)}
        return StageKey("cues", VERSION, settings, inputs)

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """The table of the method's own."""
        return (TableInput("contrast", self.contrast.directory, ("contrast",)),)

    def load_infer(self, store: Store, device: Device) -> Infer:
        """Scores of the helper network."""
        network = self.network_of(self.network, PixelNetwork, store, device)

        def scores(image: NDArray[np.uint8]) -> NDArray[np.float16]:
            pixels = on_grid(image, network.output_stride).to(device.name)
            with torch.inference_mode(), autocast(self.images.precision, device.name):
                return to_half(network(pixels)[0].float().cpu().numpy())

        return lambda images, _: [pack_array(scores(image)) for image in images]

    def cue(self, row: Row) -> CueRow:
        """The label of a row, or why there is none."""
        if row["raw"] is None:
            return CueRow(error=row["error"])
        contrast = decode_map(row["contrast.contrast"])
        scores = unpack_array(row["raw"]).astype(np.float32)
        label = adapt_labels(scores, row["tags"], *contrast.shape)
        label[contrast < self.config.cues.contrast.least] = IGNORE  # type: ignore[attr-defined]
        return CueRow(label)
