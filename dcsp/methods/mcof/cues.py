"""Cues of MCOF: superpixels labelled by RegionNet (Wang et al. 2018; method 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.stage import EvidenceStage, Infer, Row, one_by_one
from dcsp.cues.table import CueRow
from dcsp.images.resize import resize_map
from dcsp.inference.multiscale import on_grid
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND
from dcsp.methods.mcof.bayes import refine_saliency
from dcsp.methods.mcof.network import RegionNetwork
from dcsp.networks.precision import autocast
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_map, decode_maps, decode_regions, encode_maps, unpack_array
from dcsp.tables.fingerprint import StageKey

VERSION = 2
CELL = 8
"""Pixels of an image per pixel of the stored evidence."""


@dataclass(frozen=True)
class RegionStage(EvidenceStage):
    """One round: RegionNet's labels of all superpixels, among background and tags.

    Attributes:
        config: Settings of the run.
        network: Key of RegionNet's training.
        regions: Key of the table of superpixels.
        phase: From 0.
        saliency: Key of the saliency table, which refines images of one tag; None: no refinement.
        saliency_pass: Which S_k of it.
        selftags: Key of the self-tags to mine by; None: by given tags.
    """

    config: RunConfig
    network: StageKey
    regions: StageKey
    phase: int
    saliency: StageKey | None = None
    saliency_pass: int = 1
    selftags: StageKey | None = None

    method = "mcof"

    @property
    def given_key(self) -> StageKey:
        """Network, superpixels and what refines them decide the cues."""
        bayes = {"saliency_pass": self.saliency_pass, "bins": self.config.cues.mcof.bins}
        return StageKey(
            "cues",
            VERSION,
            settings={
                "method": self.method,
                "phase": self.phase,
                **(bayes if self.saliency else {}),
                **self.images.key(uses_crf=False),
            },
            inputs={
                "network": self.network.fingerprint,
                "regions": self.regions.fingerprint,
                **({"saliency": self.saliency.fingerprint} if self.saliency else {}),
            },
        )

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """Superpixels and saliency."""
        regions = TableInput("regions", self.regions.directory, ("regions", "status", "error"))
        if self.saliency is None:
            return (regions,)
        return (regions, TableInput("saliency", self.saliency.directory, ("maps",)))

    def evidence(self, row: Row) -> NDArray[np.float32]:
        """Probabilities of the tags, nHW, at the size the network saw."""
        maps = decode_maps(row["start.attention"], row["start.attention_shape"])
        return resize_map(maps, *self.images.inner_size(row["height"], row["width"]))

    @property
    def needs_image(self) -> bool:
        """For the colours that refine saliency."""
        return self.saliency is not None

    def wants(self, row: Row) -> bool:
        """Tagged images that have superpixels."""
        return bool(row["tags"]) and bool(row["regions.regions"])

    def load_infer(self, store: Store, device: Device) -> Infer:
        """Probabilities of background and tags."""
        network = self.network_of(self.network, RegionNetwork, store, device)
        return one_by_one(lambda image, row: self._classify(network, image, row, device.name))

    def cue(self, row: Row) -> CueRow:
        """Superpixels painted; where saliency refines them, the refined object is the cue."""
        if self.selftags and not row["tags"]:
            return CueRow()  # what went wrong with an image with given tags is told of elsewhere
        if row["raw"] is None:
            return CueRow(error=row["regions.error"] or row["error"])
        shares = unpack_array(row["raw"]).astype(np.float32)
        painted = np.take(shares, decode_regions(row["regions.regions"]), axis=1)
        if self.saliency and len(row["tags"]) == 1 and row["saliency.maps"]:
            painted = self._refined(row, painted)
        label, _ = winning_label(painted, (BACKGROUND, *row["tags"]))
        height, width = label.shape
        small = resize_map(painted[1:], -(-height // CELL), -(-width // CELL))
        attention, shape = encode_maps(small.clip(0.0, 1.0))
        return CueRow(label, attention, shape)

    def _refined(self, row: Row, painted: NDArray[np.float32]) -> NDArray[np.float32]:
        """Saliency under Bayes, given the colours of what RegionNet mined, for both labels."""
        found = decode_map(row["saliency.maps"][self.saliency_pass - 1])
        saliency = resize_map(found, *painted.shape[1:])
        mined = painted.argmax(axis=0).astype(np.uint8)
        refined = refine_saliency(
            self.images.decode(row["bytes"]), saliency, mined, bins=self.config.cues.mcof.bins
        )
        return np.stack([1.0 - refined, refined])

    def _classify(
        self, network: RegionNetwork, image: NDArray[np.uint8], row: Row, device: str
    ) -> NDArray[np.float16]:
        """Probabilities (1+n, R) of background and tags, absent classes left out."""
        pixels = on_grid(image, network.output_stride)
        ids = torch.from_numpy(decode_regions(row["regions.regions"]))[None]
        with torch.inference_mode(), autocast(self.images.precision, device):
            logits = network(pixels.to(device), ids.to(device)).logits
            shares = logits[:, [BACKGROUND, *row["tags"]]].softmax(dim=1)
        return np.asarray(shares.T.float().cpu().numpy(), np.float16)
