"""Cues spread by a random walk over learned affinities (method 2; Ahn and Kwak 2018)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dcsp.config import RunConfig
from dcsp.cues.stage import CueStage, EvidenceStage, Infer, Row, one_by_one
from dcsp.cues.table import CueRow
from dcsp.images.resize import resize_map
from dcsp.inference.crf import dense_crf
from dcsp.inference.multiscale import on_grid
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND
from dcsp.methods.affinity.areas import with_background
from dcsp.methods.affinity.network import STRIDE, AffinityNetwork
from dcsp.methods.affinity.walk import pair_affinities, pair_offsets, random_walk
from dcsp.networks.precision import autocast
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_maps, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import OK

VERSION = 3


@dataclass(frozen=True)
class AffinityStage(CueStage):
    """Evidence of other cues, walked over the affinities of each image's cells.

    Attributes:
        config: Settings of the run.
        start: The cues it starts from.
        network: Key of the affinity network's training.
        selftags: Key of the self-tags that the cues it starts from were mined by; None: given tags.
    """

    config: RunConfig
    start: EvidenceStage
    network: StageKey
    selftags: StageKey | None = None

    method = "affinity"

    @property
    def given_key(self) -> StageKey:
        """The evidence, the network and the walk decide the cues."""
        settings = self.config.cues.affinity
        walk = ("alpha", "radius", "beta", "walk_steps", "crf")
        return StageKey(
            "cues",
            VERSION,
            settings={
                "method": self.method,
                **{name: getattr(settings, name) for name in walk},
                **self.images.key(settings.crf),
            },
            inputs={"start": self.start.key.fingerprint, "network": self.network.fingerprint},
        )

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """The evidence."""
        return self.start.evidence_inputs

    @property
    def needs_image(self) -> bool:
        """For the CRF."""
        return self.config.cues.affinity.crf

    @property
    def spent(self) -> tuple[str, ...]:
        """The evidence, once it has walked."""
        columns = (source.column(name) for source in self.own_inputs for name in source.columns)
        return tuple(name for name in columns if name != "start.error")

    def by_selftags(self, selftags: StageKey) -> tuple[CueStage, ...]:
        """The cues it starts from by self-tags, too; the network learned from given tags alone."""
        *before, start = self.start.by_selftags(selftags)
        assert isinstance(start, EvidenceStage)
        return (*before, start, replace(self, start=start, selftags=selftags))

    def wants(self, row: Row) -> bool:
        """Images that have evidence."""
        return bool(row["start.status"] == OK)

    def load_infer(self, store: Store, device: Device) -> Infer:
        """The walked scores."""
        network = self.network_of(self.network, AffinityNetwork, store, device)
        return one_by_one(lambda image, row: self._walk(network, image, row, device.name))

    def cue(self, row: Row) -> CueRow:
        """Argmax at image size."""
        if row["raw"] is None:
            return CueRow(error=row["start.error"] or row["error"])
        walked = unpack_array(row["raw"]).astype(np.float32)
        size = self.images.inner_size(row["height"], row["width"])
        full = resize_map(walked, *size, corners=True)
        if self.config.cues.affinity.crf:
            full /= full.sum(axis=0)
            full = dense_crf(self.images.decode(row["bytes"]), full, self.images.crf)
        label, _ = winning_label(full, (BACKGROUND, *row["tags"]))
        attention, shape = encode_maps(walked[1:].clip(0.0, 1.0))
        return CueRow(label, attention, shape)

    def _walk(
        self, network: AffinityNetwork, image: NDArray[np.uint8], row: Row, device: str
    ) -> NDArray[np.float16]:
        """Background and tags, (1+n)hw, after the walk."""
        settings = self.config.cues.affinity
        pixels = on_grid(image, STRIDE)
        evidence = with_background(self.start.evidence(row), settings.alpha)
        seeds = torch.from_numpy(resize_map(evidence, *pixels.shape[-2:])).to(device)
        pooled = F.avg_pool2d(seeds, STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)
        offsets = pair_offsets(settings.radius)
        with torch.inference_mode():
            with autocast(self.images.precision, device):
                features = network(pixels.to(device))[0]
            affinities = pair_affinities(features, offsets)
            walked = random_walk(affinities, offsets, pooled, settings.beta, settings.walk_steps)
        return walked.cpu().numpy().astype(np.float16)
