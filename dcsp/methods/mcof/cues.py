"""Cues of MCOF: superpixels labelled by RegionNet (Wang et al. 2018; method 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.table import CueImages, CueRow, CueWriter, cue_key, tagged_corpus
from dcsp.images.resize import resize_map, resize_rgb
from dcsp.inference.multiscale import autocast, prepare
from dcsp.inference.scores import winning_label
from dcsp.labels import BACKGROUND
from dcsp.methods.mcof.bayes import refine_saliency
from dcsp.methods.mcof.network import RegionNetwork
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableInput
from dcsp.store.store import Store
from dcsp.tables.codecs import (
    decode_map,
    decode_maps,
    decode_regions,
    encode_maps,
    pack_array,
    unpack_array,
)
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES

VERSION = 2
CELL = 8
"""Pixels of an image per pixel of the stored evidence."""


@dataclass(frozen=True)
class RegionStage:
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

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """Network, superpixels and what refines them decide the cues."""
        bayes = {"saliency_pass": self.saliency_pass, "bins": self.config.cues.mcof.bins}
        key = StageKey(
            "cues",
            VERSION,
            settings={
                "method": "mcof",
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
        return cue_key(key, self.selftags)

    @property
    def schema(self) -> pa.Schema:
        """See :data:`dcsp.tables.schemas.CUES`."""
        return CUES

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """Corpus, superpixels and saliency."""
        regions = TableInput("regions", self.regions.directory, ("regions", "status", "error"))
        if self.saliency is None:
            return (*tagged_corpus(self.selftags), regions)
        saliency = TableInput("saliency", self.saliency.directory, ("maps",))
        return (*tagged_corpus(self.selftags), regions, saliency)

    @property
    def evidence_inputs(self) -> tuple[TableInput, ...]:
        """The probabilities of its own table."""
        columns = ("attention", "attention_shape", "status", "error")
        return (TableInput("start", self.key.directory, columns),)

    def evidence(self, row: dict[str, Any]) -> NDArray[np.float32]:
        """Probabilities of the tags, nHW, at the size the network saw."""
        maps = decode_maps(row["start.attention"], row["start.attention_shape"])
        return resize_map(maps, *self.images.inner_size(row["height"], row["width"]))

    def load(self, store: Store, device: Device) -> PartModel:
        """Load RegionNet; the model adds probabilities of background and tags to the rows."""
        precision = self.images.precision
        checkpoint = load_checkpoint(store, self.network.directory, RegionNetwork)
        network = prepare(checkpoint, precision, device.name)

        def model(rows: pa.Table) -> pa.Table:
            tags: list[Any] = rows["tags"].to_pylist()
            regions: list[Any] = rows["regions.regions"].to_pylist()

            def infer(images: list[NDArray[np.uint8]], numbers: list[int]) -> list[bytes]:
                return [
                    pack_array(
                        self._classify(
                            network, image, decode_regions(regions[i]), tags[i], device.name
                        )
                    )
                    for image, i in zip(images, numbers, strict=True)
                ]

            wanted = [bool(t) and bool(r) for t, r in zip(tags, regions, strict=True)]
            results = infer_rows(rows, self.images.decode, infer, wanted=wanted, device=device)
            return (
                rows.append_column("raw", pa.array(results.values, pa.large_binary()))
                .append_column("status", pa.array(results.statuses()))
                .append_column("error", pa.array(results.errors, pa.string()))
            )

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Paint the superpixels; where saliency refines them, the refined object is the cue."""
        writer = CueWriter("mcof", self.phase)
        for row in rows.to_pylist():
            writer.add(row, row["status"], self._cue(row))
        return writer.table()

    def _cue(self, row: dict[str, Any]) -> CueRow:
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

    def _refined(self, row: dict[str, Any], painted: NDArray[np.float32]) -> NDArray[np.float32]:
        """Saliency under Bayes, given the colours of what RegionNet mined, for both labels."""
        found = decode_map(row["saliency.maps"][self.saliency_pass - 1])
        saliency = resize_map(found, *painted.shape[1:])
        mined = painted.argmax(axis=0).astype(np.uint8)
        refined = refine_saliency(
            self.images.decode(row["bytes"]), saliency, mined, bins=self.config.cues.mcof.bins
        )
        return np.stack([1.0 - refined, refined])

    def _classify(
        self,
        network: RegionNetwork,
        image: NDArray[np.uint8],
        regions: NDArray[np.int32],
        tags: list[int],
        device: str,
    ) -> NDArray[np.float16]:
        """Probabilities (1+n, R) of background and tags, absent classes left out."""
        stride = network.output_stride
        height, width = (max(1, round((s - 1) / stride)) * stride + 1 for s in image.shape[:2])
        pixels = torch.from_numpy(resize_rgb(image, height, width)).permute(2, 0, 1)[None]
        ids = torch.from_numpy(regions)[None]
        with torch.inference_mode(), autocast(self.images.precision, torch.device(device)):
            logits = network(pixels.to(device), ids.to(device)).logits
            shares = logits[:, [BACKGROUND, *tags]].softmax(dim=1)
        return np.asarray(shares.T.float().cpu().numpy(), np.float16)
