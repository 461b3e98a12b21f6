"""From what the networks found to cues on disk, and how many bytes they are.

Neither side runs a network: both are handed what the detector finds in each pass and the raw
attention of the tagged classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.attention import normalize_attention, select_tags
from dcsp.cues.dcsp import DCSPStage
from dcsp.images.resize import resize_map, resize_rgb
from dcsp.saliency.hierarchy import hierarchical_saliency
from dcsp.saliency.table import SaliencyStage
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, pack_array, quantize
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import OK
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs, Photograph
from tests.bench.peers import reference

BATCH = 16  # as :func:`dcsp.stages.rows.infer_rows` hands them on
LEFT_OUT = "detector and network"


def fusion(inputs: Inputs) -> Row:
    """Hierarchy bookkeeping, Algorithm 1, encoding and writing."""
    count = inputs.pick(1, 48)
    work = _Work.of(inputs, inputs.photographs(count))
    pair = compare(work.ours, work.peer, rounds=inputs.pick(2, 3))
    return pair.row(
        "fusion",
        count,
        "image",
        images=f"{count} {inputs.images}",
        peer_is="authors' order of work, re-enacted: loops over pixels, npz",
        left_out=LEFT_OUT,
        agreement=_agreement(_labels(pair.our_result), pair.peer_result),
    )


def bytes_per_image(inputs: Inputs) -> Row:
    """Saliency, attention and cues on disk."""
    count = inputs.pick(8, 64)
    work = _Work.of(inputs, inputs.photographs(count))
    work.ours()
    ours = _size(work.folder / "store") / count
    files = work.peer_files()
    peer = sum(path.stat().st_size for path in files) / count
    for path in files:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                np.savez_compressed(path, **{name: arrays[name] for name in arrays.files})
    compressed = sum(path.stat().st_size for path in files) / count
    return Row(
        "bytes_per_image",
        peer / ours,
        ours,
        peer,
        "bytes/image",
        {
            "images": f"{count} {inputs.images}",
            "ours_holds": "S_1 to S_3 at the detector's size, attention, cue: 8-bit PNG, Parquet",
            "peer_is": "S_3 float64 and attention float32 at image size as npz, cue PNG",
            "peer_if_npz_were_compressed": compressed,
            "tags_per_image": float(np.mean([len(p.tags) for p in work.photographs])),
        },
    )


@dataclass(frozen=True)
class _Work:
    """The same images for both sides."""

    folder: Path
    config: RunConfig
    photographs: list[Photograph]
    detector_images: list[NDArray[np.uint8]]
    passes: NDArray[np.float32]
    passes_at_image: list[NDArray[np.float64]]
    attention: list[NDArray[np.float32]]

    @classmethod
    def of(cls, inputs: Inputs, photographs: list[Photograph]) -> _Work:
        passes = inputs.passes(photographs)
        at_image = [
            resize_map(maps, *p.image.shape[:2]).astype(np.float64)
            for maps, p in zip(passes, photographs, strict=True)
        ]
        attention = [
            normalize_attention(select_tags(scores, p.tags, "scores"))
            for scores, p in zip(inputs.scores(photographs), photographs, strict=True)
        ]
        folder = inputs.directory / "fusion"
        (folder / "npz").mkdir(parents=True, exist_ok=True)
        config = RunConfig(store=str(folder / "store"), corpus=inputs.settings)
        small = [resize_rgb(p.image, *passes.shape[-2:]) for p in photographs]  # as they are read
        return cls(folder, config, photographs, small, passes, at_image, attention)

    def ours(self) -> pa.Table:
        """Both stages as a part runs them; returns the cue table."""
        settings = self.config.saliency
        found: list[bytes] = []
        for start in range(0, len(self.photographs), BATCH):
            batch = slice(start, start + BATCH)
            detector = _Replay(self.passes[batch], settings.thresholds)
            images = self.detector_images[batch]
            levels = hierarchical_saliency(images, detector, settings.thresholds)
            found += [pack_array(quantize(maps)) for maps in levels]
        assert settings.detector
        stage = SaliencyStage(
            settings.detector, settings.thresholds, "", self.config.corpus.max_pixels
        )
        saliency = stage.finish(self._rows(found))
        rows = self._rows([pack_array(maps) for maps in self.attention])
        rows = rows.append_column("tags", pa.array([p.tags for p in self.photographs]))
        for name in ("maps", "status", "error"):
            rows = rows.append_column(f"saliency.{name}", saliency[name])
        key = StageKey("bench", 1)
        cues = DCSPStage(self.config, self.config.cues.dcsp, key, key).finish(rows)
        store = Store(self.config.store)
        store.write_table("saliency.parquet", saliency)
        store.write_table("cues.parquet", cues)
        return cues

    def peer(self) -> list[NDArray[np.uint8]]:
        """One image after the other; returns the cues."""
        works = zip(self.photographs, self.passes_at_image, self.attention, strict=True)
        return [self._peer_cue(*work) for work in works]

    def _peer_cue(
        self,
        photograph: Photograph,
        passes: NDArray[np.float64],
        attention: NDArray[np.float32],
    ) -> NDArray[np.uint8]:
        found = iter(passes)
        return reference.mine(
            self.folder / "npz",
            photograph.row.image_id,
            photograph.image,
            lambda _: next(found),
            lambda: attention,
            self.config.saliency.thresholds,
            photograph.tags,
            self.config.cues.dcsp.gamma_low,
        )

    def peer_files(self) -> list[Path]:
        """The files the peer leaves, written without its loops."""
        folder = self.folder / "npz"
        files = []
        for photograph, passes, low, cue in zip(
            self.photographs,
            self.passes_at_image,
            self.attention,
            _labels(self.ours()),
            strict=True,
        ):
            name = photograph.row.image_id
            maps = reference.attention_at_image(low, *photograph.image.shape[:2])
            files.append(reference.save_saliency(folder, name, passes.max(axis=0)))
            files.append(reference.save_attention(folder, name, maps))
            files.append(reference.save_cue(folder, name, cue))
        return files

    def _rows(self, raw: list[bytes]) -> pa.Table:
        count = len(self.photographs)
        columns: dict[str, pa.Array[Any]] = {
            "image_id": pa.array([p.row.image_id for p in self.photographs]),
            "height": pa.array([p.image.shape[0] for p in self.photographs], pa.int32()),
            "width": pa.array([p.image.shape[1] for p in self.photographs], pa.int32()),
            "raw": pa.array(raw, pa.large_binary()),
            "status": pa.array([OK] * count),
            "error": pa.nulls(count, pa.string()),
        }
        return pa.Table.from_arrays(list(columns.values()), names=list(columns))


class _Replay:
    """A detector that costs nothing: it knows what each call of the hierarchy will find."""

    def __init__(self, passes: NDArray[np.float32], thresholds: tuple[float, ...]) -> None:
        self.height, self.width = passes.shape[-2:]
        calls = [passes[:, 0]]
        for number, threshold in enumerate(thresholds):
            erased = (passes[:, number] > threshold).any(axis=(1, 2))
            if erased.any():
                calls.append(passes[erased, number + 1])
        self._calls = iter(calls)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = next(self._calls)
        assert len(found) == len(images)
        return found


def _labels(cues: pa.Table) -> list[NDArray[np.uint8]]:
    return [decode_labels(row["label"]) for row in cues.select(["label"]).to_pylist()]


def _agreement(ours: list[NDArray[np.uint8]], peer: list[NDArray[np.uint8]]) -> float:
    return float(np.mean([(a == b).mean() for a, b in zip(ours, peer, strict=True)]))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


ROWS: dict[str, Callable[[Inputs], Row]] = {"fusion": fusion, "bytes_per_image": bytes_per_image}
