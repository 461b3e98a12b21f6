"""The whole chain on generated scenes, by the executor of this process."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import torch
from onnx import TensorProto, helper

from dcsp.config import RunConfig
from dcsp.config.file import parse_config
from dcsp.corpus.listing import Listing
from dcsp.corpus.pack import Packer
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.corpus.sources.scenes import ScenesSource
from dcsp.labels import SCENE_CLASSES
from dcsp.networks.checkpoint import load_checkpoint, save_network
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import step_record
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, metrics_file, part_file
from dcsp.tables.snapshot import Snapshot
from dcsp.training.stage import TrainStage
from jobs._chain import Chain
from tests.corpus.shelf import ingest_here

CORRUPT, UNTAGGED = "train_000001", "train_000002"
"""Planted rows: an image that no longer decodes, and one without tags."""


def write_detector(path: Path) -> str:
    """A detector that calls bright pixels salient, as an ONNX file of 32×32 images.

    Brightness is relative to the brightest pixel left: once that is erased, the next is found.
    """
    constants = {"half": 0.55, "gain": 2.2, "low": 0.0, "high": 1.0}
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["grey", "half"], ["above"]),
        helper.make_node("Mul", ["above", "gain"], ["steep"]),
        helper.make_node("Clip", ["steep", "low", "high"], ["map"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])
    found = helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", 1, 32, 32])
    values = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "brightness", [image], [found], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def chain_config(store: Path | str, detector: str, **blocks: Any) -> RunConfig:
    """Settings small enough for seconds; ``blocks`` replace whole blocks."""
    training = {"steps": 2, "batch": 2, "crop": 64, "scale": [0.9, 1.1], "learning_rate": 0.01}
    tree: dict[str, Any] = {
        "store": str(store),
        "name": "tiny",
        "corpus": {
            "kind": "scenes",
            "classes": list(SCENE_CLASSES),
            "part_rows": 3,
            "scenes": {"train": 6, "val": 2, "height": 48, "width": 64},
        },
        "network": {
            "backbone": "resnet18",
            "weights": "random",
            "output_stride": 16,
            "atrous_rates": [1, 2],
        },
        "saliency": {
            "detectors": {
                "model": detector,
                "height": 32,
                "width": 32,
                "mean": [0, 0, 0],
                "std": [1, 1, 1],
            }
        },
        "fcan": {**training, "saliency_weight": 1.0},
        "joint": training,
        "cues": {
            "dcsp": {"attention": {"scales": [1, 0.75]}, "gamma_low": 0.3, "gamma_high": 0.3},
            "compare": {"soft": {"gamma_low": 0.2, "gamma_high": 0.5, "crf": True}},
            "adapt": {"scales": [1], "flip": True, "fuse": "mean"},
        },
        "predict": {"scales": [1]},
        "precision": {"autocast": "fp32"},
        "report": {"gallery": 6},
        "cluster": {"executor": "here", "use_gpu": False},
    }
    return parse_config(tree | blocks)


@dataclass(frozen=True)
class Planted:
    """Scenes of which one has lost its tags, and whose masks may be those of other images.

    Attributes:
        scenes: The scenes as they are.
        shuffled: Whether each image gets the mask of the next one.
    """

    scenes: ScenesSource
    shuffled: bool = False

    def list_rows(self) -> Listed:
        return Listed.of(
            [
                replace(row, tags=()) if row.image_id == UNTAGGED else row
                for row in self.scenes.list_rows().rows
            ]
        )

    def read(self, row: SourceRow) -> bytes:
        return self.scenes.read(row)

    def read_mask(self, row: SourceRow) -> bytes | None:
        rows = self.scenes.list_rows().rows
        index = next(i for i, other in enumerate(rows) if other.image_id == row.image_id)
        return self.scenes.read_mask(rows[(index + self.shuffled) % len(rows)])


def ingest(config: RunConfig, shuffled: bool = False) -> Snapshot:
    """Pack the scenes into parts; then one image's bytes are damaged where they lie."""
    settings, store = config.corpus, Store(config.store)
    scenes = ScenesSource(settings.scenes, settings.learned, config.seed, settings.splits)
    source = Planted(scenes, shuffled)
    listing = Listing.of(source.list_rows(), Packer(store, source, settings))
    snapshot = ingest_here(listing).snapshot
    listing.remember(snapshot, seconds=0.0)
    for part in snapshot.parts:
        _damage(store, part_file(CORPUS_DIRECTORY, part.name))
    return snapshot


def _damage(store: Store, file: str) -> None:
    table = store.read_table(file)
    rows = table.to_pylist()
    for row in rows:
        if row["image_id"] == CORRUPT:
            row["bytes"] = b"\xff\xd8 what is left of a photograph"
            row["sha256"] = hashlib.sha256(row["bytes"]).hexdigest()
    store.write_table(file, pa.Table.from_pylist(rows, table.schema))


def compute(config: RunConfig, snapshot: Snapshot, until: str | None = None) -> Plan:
    """Do every stage up to the predictions, or to a cue table."""
    made, plan = Chain(config), build_plan(config, snapshot)
    plan = plan.until(until) if until else plan
    for step in plan:
        made.run(plan, step)
    return plan


def evaluate(plan: Plan) -> dict[str, Any]:
    """Compare with the ground truth, write metrics and report, and publish the run."""
    made = Chain(plan.config)
    made.computed = {step.title: True for step in plan}
    made.seconds = {step.title: step_record(made.store, plan, step)["seconds"] for step in plan}
    made.finish(plan)
    metrics: dict[str, Any] = made.store.read_json(metrics_file(plan.run_id))
    return metrics


def opinionated(source: Store, checkpoint: str, place: Path) -> Store:
    """A store with the same corpus and a network whose labels differ from place to place."""
    network = load_checkpoint(source, checkpoint, SegmentationNetwork)
    shutil.copytree(source.path("corpus"), place / "corpus")
    store = Store(place)
    _save_with_opinions(store, checkpoint, network, 0)
    return store


def give_opinions(store: Store, stage: TrainStage, seed: int) -> None:
    """Leave a network such as :func:`opinionated` ones, untrained, where a training would."""
    network = stage.build(store)
    assert isinstance(network, SegmentationNetwork)
    _save_with_opinions(store, stage.key.directory, network, seed)


def _save_with_opinions(
    store: Store, checkpoint: str, network: SegmentationNetwork, seed: int
) -> None:
    for number, branch in enumerate(network.aspp):
        generator = torch.manual_seed(seed + number)
        torch.nn.init.normal_(branch.weight, std=0.1, generator=generator)
    save_network(store, checkpoint, network)


def table(plan: Plan, title: str, splits: Sequence[str] = ("train",)) -> dict[str, dict[str, Any]]:
    """Image id → row of the table of a step."""
    store, directory = Store(plan.config.store), plan.step(title).stage.key.directory
    return {
        row["image_id"]: row
        for part in plan.snapshot.of(splits)
        for row in store.read_table(part_file(directory, part.name)).to_pylist()
    }


def upsample(maps: np.ndarray, height: int, width: int, corners: bool) -> np.ndarray:
    """NHW maps at another size, bilinear, axis by axis with :func:`numpy.interp`, in float64."""

    def positions(old: int, new: int) -> np.ndarray:
        if corners:
            return np.linspace(0, old - 1, new)
        return (np.arange(new) + 0.5) * old / new - 0.5

    rows, columns = positions(maps.shape[1], height), positions(maps.shape[2], width)
    tall = np.stack([[np.interp(rows, range(m.shape[0]), c) for c in m.T] for m in maps])
    wide = [[np.interp(columns, range(m.shape[0]), c) for c in m.T] for m in tall]
    return np.stack(wide)
