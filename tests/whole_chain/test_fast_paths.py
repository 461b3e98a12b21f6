"""Tables hold what slow code would have found: one image, one view, one pixel at a time, float32.

What is fast is all at work here: batches, folded norms, fused views, maps that travel rounded,
labels upsampled a few rows at a time. The arithmetic is float32 on both sides; what bfloat16 costs
is measured in tests/inference/test_bfloat16.py.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from dcsp.config import RunConfig
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.run.here import Here
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from tests import chain
from tests.bench.peers import reference

SCALES = (1.0, 0.75, 0.5)
LEVEL = 1 / 255


@dataclass(frozen=True)
class Mined:
    """A store with the tables of networks that have opinions, and what they are of."""

    store: Store
    plan: Plan
    config: RunConfig
    corpus: list[dict[str, Any]]
    detector: str

    def table(self, title: str) -> dict[str, dict[str, Any]]:
        directory = self.plan.step(title).stage.key.directory
        return {row["image_id"]: row for row in self._rows(directory) if row["status"] == "ok"}

    def network(self, title: str) -> SegmentationNetwork:
        directory = self.plan.step(title).stage.key.directory
        return load_checkpoint(self.store, directory, SegmentationNetwork).eval()

    def _rows(self, directory: str) -> list[dict[str, Any]]:
        parts = self.plan.snapshot.of(["train"])
        files = [part_file(directory, part.name) for part in parts]
        return [row for file in files for row in self.store.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, detector: str, one_thread: None) -> Mined:
    scenes = {"train": 6, "val": 2, "height": 49, "width": 97}  # too small to be decoded at a half
    place = tmp_path_factory.mktemp("fast")
    config = chain.chain_config(place / "store", detector)
    corpus = config.corpus.model_copy(
        update={"scenes": config.corpus.scenes.model_copy(update=scenes)}
    )
    attention = config.cues.dcsp.attention.model_copy(update={"scales": SCALES})
    dcsp = config.cues.dcsp.model_copy(update={"attention": attention})
    config = config.model_copy(
        update={
            "corpus": corpus,
            "cues": config.cues.model_copy(update={"dcsp": dcsp, "compare": {}}),
            "predict": config.predict.model_copy(update={"scales": SCALES, "crf": False}),
        }
    )
    snapshot = chain.ingest(config)
    plan = build_plan(config, snapshot)
    store = Store(config.store)
    for number, step in enumerate(plan):
        if step.stage.learns:
            chain.give_opinions(store, step.stage, number)
    for title in ("saliency", "cues_phase0", "predictions"):
        stage = plan.step(title).stage
        stage.compute(Here(use_gpu=False), store, snapshot.of(["train"]), title)
    files = [part_file(CORPUS_DIRECTORY, part.name) for part in snapshot.of(["train"])]
    rows = [row for file in files for row in store.read_table(file).to_pylist()]
    good = [row for row in rows if row["tags"] and row["image_id"] != chain.CORRUPT]
    return Mined(store, plan, config, good, detector)


def pixels_of(row: dict[str, Any]) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(row["bytes"])).convert("RGB"))


def scaled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def fused(network: SegmentationNetwork, image: np.ndarray, output: str) -> np.ndarray:
    """The maximum over the scales, each a pass of its own, on the grid of scale 1."""
    stride = network.output_stride
    views = []
    for scale in SCALES:
        cells = [max(1, round((side * scale - 1) / stride)) for side in image.shape[:2]]
        view = scaled(image, *(cell * stride + 1 for cell in cells))
        with torch.no_grad():
            scores = network(torch.from_numpy(view).permute(2, 0, 1)[None].float())
        views.append(getattr(scores, output)[0].double().numpy())
    size = [max(1, round((side - 1) / stride)) + 1 for side in image.shape[:2]]
    return np.max([chain.upsample(view, *size, True) for view in views], axis=0)


def slow_saliency(mined: Mined, image: np.ndarray) -> list[np.ndarray]:
    """S_1 to S_3 on the detector's grid."""
    session = onnxruntime.InferenceSession(mined.detector)
    seen, levels = scaled(image, 32, 32), []
    for threshold in (*mined.config.saliency.thresholds, 1.0):
        planes = seen.astype(np.float32).transpose(2, 0, 1)[None] / max(1, int(seen.max()))
        found = session.run(None, {"image": planes})[0][0, 0].astype(np.float64)
        levels.append(reference.combine(levels[-1], found) if levels else found)
        seen = reference.erase(seen, found, threshold)
    return levels


def test_saliency_is_within_a_level(mined: Mined) -> None:
    table = mined.table("saliency")
    differing = 0
    for row in mined.corpus:
        expected = slow_saliency(mined, pixels_of(row))
        for found, slow in zip(table[row["image_id"]]["maps"], expected, strict=True):
            assert np.abs(decode_map(found) - slow).max() <= LEVEL
        differing += int((expected[2] > expected[0] + LEVEL).sum())
    assert differing  # later passes found something


def test_attention_is_within_a_level_and_cues_are_the_same(mined: Mined) -> None:
    table, network = mined.table("cues_phase0"), mined.network("fcan")
    same = pixels = foreground = 0
    for row in mined.corpus:
        image, found = pixels_of(row), table[row["image_id"]]
        volume = fused(network, image, "attention")[[tag - 1 for tag in row["tags"]]]
        low, high = (f(volume, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        attention = (volume - low) / (high - low)
        stored = decode_maps(found["attention"], found["attention_shape"])
        assert np.abs(stored - attention).max() <= LEVEL
        full = reference.attention_at_image(attention.astype(np.float32), *image.shape[:2])
        saliency = chain.upsample(slow_saliency(mined, image)[2][None], *image.shape[:2], False)
        gamma = mined.config.cues.dcsp.gamma_low
        cue = reference.discover(full, saliency[0], row["tags"], gamma)
        label = decode_labels(found["label"])
        same, pixels = same + int((cue == label).sum()), pixels + cue.size
        foreground += int((label > 0).sum())
    assert same >= 0.999 * pixels and 0.02 * pixels < foreground < 0.98 * pixels


def test_predicted_labels_are_the_same(mined: Mined) -> None:
    assert mined.plan.model is not None
    table = mined.table("predictions")
    network = load_checkpoint(mined.store, mined.plan.model.key.directory, SegmentationNetwork)
    same = pixels = 0
    seen: set[int] = set()
    for row in mined.corpus:
        image = pixels_of(row)
        scores = chain.upsample(fused(network.eval(), image, "score_map"), *image.shape[:2], True)
        label = decode_labels(table[row["image_id"]]["label_without_crf"])
        same, pixels = same + int((scores.argmax(axis=0) == label).sum()), pixels + label.size
        seen |= {int(i) for i in np.unique(label)}
    assert same >= 0.999 * pixels and len(seen) > 2
