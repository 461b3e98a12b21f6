"""Cues spread by a random walk over learned affinities (method 2; Ahn and Kwak 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dcsp.config import RunConfig
from dcsp.cues.evidence import EvidenceStage
from dcsp.cues.table import CueImages, CueRow, CueWriter, cue_key, tagged_corpus
from dcsp.images.resize import resize_map, resize_rgb
from dcsp.inference.crf import dense_crf
from dcsp.inference.multiscale import autocast, prepare
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND
from dcsp.methods.affinity.areas import with_background
from dcsp.methods.affinity.network import STRIDE, AffinityNetwork
from dcsp.methods.affinity.walk import pair_affinities, pair_offsets, random_walk
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableInput
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_maps, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES, OK

VERSION = 2


@dataclass(frozen=True)
class AffinityStage:
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

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """The evidence, the network and the walk decide the cues."""
        settings = self.config.cues.affinity
        walk = ("alpha", "radius", "beta", "walk_steps", "crf")
        key = StageKey(
            "cues",
            VERSION,
            settings={
                "method": "affinity",
                **{name: getattr(settings, name) for name in walk},
                **self.images.key(settings.crf),
            },
            inputs={"start": self.start.key.fingerprint, "network": self.network.fingerprint},
        )
        return cue_key(key, self.selftags)

    @property
    def schema(self) -> pa.Schema:
        """See :data:`dcsp.tables.schemas.CUES`."""
        return CUES

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """The corpus and the evidence."""
        return (*tagged_corpus(self.selftags), *self.start.evidence_inputs)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds the walked scores to the rows."""
        precision = self.images.precision
        checkpoint = load_checkpoint(store, self.network.directory, AffinityNetwork)
        network = prepare(checkpoint, precision, device.name)

        def model(rows: pa.Table) -> pa.Table:
            known = rows.to_pylist()

            def infer(images: list[NDArray[np.uint8]], numbers: list[int]) -> list[bytes]:
                return [
                    pack_array(self._walk(network, image, known[number], device.name))
                    for image, number in zip(images, numbers, strict=True)
                ]

            wanted = [row["start.status"] == OK for row in known]
            results = infer_rows(rows, self.images.decode, infer, wanted=wanted, device=device)
            status = [
                row["start.status"] if row["start.status"] != OK else own
                for row, own in zip(known, results.statuses(), strict=True)
            ]
            return (
                rows.select(["image_id", "height", "width", "tags", "bytes", "start.error"])
                .append_column("raw", pa.array(results.values, pa.large_binary()))
                .append_column("status", pa.array(status))
                .append_column("error", pa.array(results.errors, pa.string()))
            )

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Argmax at image size."""
        writer = CueWriter("affinity", phase=0)
        for row in rows.to_pylist():
            writer.add(row, row["status"], self._cue(row))
        return writer.table()

    def _cue(self, row: dict[str, Any]) -> CueRow:
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
        self, network: AffinityNetwork, image: NDArray[np.uint8], row: dict[str, Any], device: str
    ) -> NDArray[np.float16]:
        """Background and tags, (1+n)hw, after the walk."""
        settings = self.config.cues.affinity
        height, width = (_grid(side) for side in image.shape[:2])
        pixels = torch.from_numpy(resize_rgb(image, height, width)).permute(2, 0, 1)[None]
        evidence = with_background(self.start.evidence(row), settings.alpha)
        seeds = torch.from_numpy(resize_map(evidence, height, width)).to(device)
        pooled = F.avg_pool2d(seeds, STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)
        offsets = pair_offsets(settings.radius)
        with torch.inference_mode():
            with autocast(self.images.precision, torch.device(device)):
                features = network(pixels.to(device))[0]
            affinities = pair_affinities(features, offsets)
            walked = random_walk(affinities, offsets, pooled, settings.beta, settings.walk_steps)
        return walked.cpu().numpy().astype(np.float16)


def _grid(side: int) -> int:
    """The nearest number of pixels whose cells' centres end on its last pixel."""
    return max(1, round((side - 1) / STRIDE)) * STRIDE + 1
