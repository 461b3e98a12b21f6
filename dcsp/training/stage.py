"""A training stage: what it learns from, what it starts from, and where its checkpoint goes.

A checkpoint directory holds ``model.safetensors`` and ``model.json``, the loss ``history.json``,
TensorBoard events, and ``complete.json``, written last.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dcsp.config import NetworkSettings, PrecisionSettings, TrainSettings
from dcsp.methods.affinity.loss import AffinityObjective
from dcsp.methods.affinity.network import build_affinity_network
from dcsp.methods.mcof.loss import RegionObjective
from dcsp.methods.mcof.network import build_region_network
from dcsp.networks.checkpoint import load_checkpoint, model_to_bytes
from dcsp.networks.deeplab import build_network
from dcsp.networks.model import Model
from dcsp.networks.weights import backbone_weights
from dcsp.stages.parts import begin_stage, live_rows, read_part
from dcsp.stages.stage import TableInput
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CARD_FILE, COMPLETE_FILE, CORPUS_DIRECTORY, HISTORY_FILE, MODEL_FILE
from dcsp.tables.snapshot import Part
from dcsp.training.augment import make_samples
from dcsp.training.logs import TrainLog
from dcsp.training.loop import Trainer
from dcsp.training.objective import Objective, ScoreObjective
from dcsp.training.stream import PartSlice, rank_batch, rank_stream, rebatch, row_order

Net = TypeVar("Net", bound=Model)


@dataclass(frozen=True)
class TrainStage:
    """One training of a network (paper 4.3, 5.1).

    Attributes:
        title: ``"fcan"`` or ``"joint_phase0"``, ``"joint_phase1"`` …
        learns: What is learned: ``"scores"`` (ℓ_c, and ℓ_s where there are cues),
            ``"affinity"`` of pairs of cells, or classes of superpixels (``"region"``).
        block: Name of its block of settings, for messages.
        key: What decides the checkpoint.
        network: Architecture and ImageNet weights.
        classes: Class names, background left out.
        settings: Steps, batch, crop, learning rates.
        precision: Arithmetic.
        seed: Of initialisation, data order and augmentation.
        initial: Checkpoint directory to go on from; ``None``: the backbone's weights alone.
        cues: Directory of the cue table to learn from; ``None`` for the FCAN stage.
        selfcues: Directory of cues by self-tags to learn from as well. Self-tags themselves are
            never learned from: a class that is none is not known to be absent.
        saliency: Directory of the saliency table; ``None`` where no loss needs it.
        saliency_pass: Which S_k of that table.
        regions: Directory of the table of superpixels; ``None`` where they do not matter.
        radius: Pairs of cells are nearer than this; for affinities alone.
        min_share: Share of a superpixel that its label must cover; for superpixels alone.
    """

    title: str
    learns: Literal["scores", "affinity", "region"]
    block: str
    key: StageKey
    network: NetworkSettings
    classes: tuple[str, ...]
    settings: TrainSettings
    precision: PrecisionSettings
    seed: int
    initial: str | None = None
    cues: str | None = None
    selfcues: str | None = None
    saliency: str | None = None
    saliency_pass: int = 1
    regions: str | None = None
    radius: int | None = None
    min_share: float | None = None

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What a worker reads of every part: never ground truth."""
        tables = [
            TableInput("", CORPUS_DIRECTORY, ("image_id", "height", "width", "bytes", "tags"))
        ]
        if self.cues:
            tables.append(TableInput("cue", self.cues, ("label",)))
        if self.selfcues:
            tables.append(TableInput("selfcue", self.selfcues, ("label",)))
        if self.saliency:
            tables.append(TableInput("saliency", self.saliency, ("maps",)))
        if self.regions:
            tables.append(TableInput("regions", self.regions, ("regions",)))
        return tuple(tables)

    def read(self, store: Store, piece: PartSlice) -> dict[str, NDArray[Any]]:
        """The augmented samples of one slice of a part, a function of the seed and the slice."""
        rows = live_rows(read_part(store, self.inputs, piece.part), piece.dead)
        order = row_order(piece.row_order_seed, rows.num_rows)[piece.start : piece.stop]
        rows = rows.take(order)
        names = {"cue.label": "cue", "regions.regions": "regions"}
        rows = rows.rename_columns([names.get(name, name) for name in rows.column_names])
        if self.selfcues:  # no image has both
            either = pc.coalesce(rows["cue"], rows["selfcue.label"])
            rows = rows.drop_columns(["cue", "selfcue.label"]).append_column("cue", either)
        if self.saliency:
            maps = rows["saliency.maps"].to_pylist()
            chosen = [m[self.saliency_pass - 1] if m else None for m in maps]
            rows = rows.drop_columns("saliency.maps")
            rows = rows.append_column("saliency", pa.array(chosen, pa.binary()))
        return make_samples(
            rows,
            self.settings,
            len(self.classes),
            self.seed,
            self.title,
            piece.epoch,
            self.network.max_side,
        )

    def pieces(self, parts: Sequence[Part], rank: int, world: int, step: int) -> list[PartSlice]:
        """What one rank still has to read from a step on."""
        batch = rank_batch(self.settings.batch, rank, world)
        dead = {part.name: part.dead for part in parts}
        pieces = rank_stream(
            [(part.name, part.live) for part in parts],
            self.seed,
            rank,
            world,
            rows_needed=(self.settings.steps - step) * batch,
            rows_to_skip=step * batch,
            stage=self.title,
        )
        return [piece._replace(dead=dead[piece.part]) for piece in pieces]

    def build(self, store: Store) -> Model:
        """The network this stage starts from."""
        if self.initial:
            return load_checkpoint(store, self.initial, Model)
        torch.manual_seed(self.seed)
        weights = backbone_weights(self.network)
        if self.learns == "affinity":
            return build_affinity_network(self.network, weights)
        if self.learns == "region":
            return build_region_network(self.network, self.classes, weights)
        return build_network(self.network, self.classes, weights)

    def objective(self, world: int) -> Objective:
        """What this stage minimises on some ranks."""
        if self.learns == "affinity":
            assert self.radius is not None
            return AffinityObjective(self.radius, world)
        if self.learns == "region":
            assert self.min_share is not None
            return RegionObjective(self.min_share, world)
        return ScoreObjective(self.settings, bool(self.cues), world)

    def trainer(self, store: Store, device: str, rank: int = 0, world: int = 1) -> Trainer:
        """The network with its optimiser, at step 0."""
        return Trainer(
            self.build(store),
            self.settings,
            self.objective(world),
            self.precision,
            self.block,
            device,
            rank,
            world,
            self.seed,
        )


def save_checkpoint(store: Store, stage: TrainStage, network: Model, log: TrainLog) -> None:
    """Write the trained network and its log and, last, the mark that the stage is complete."""
    weights, card = model_to_bytes(network)
    directory = stage.key.directory
    store.write_bytes(f"{directory}/{MODEL_FILE}", weights)
    store.write_json(f"{directory}/{CARD_FILE}", card)
    store.write_json(f"{directory}/{HISTORY_FILE}", log.history)
    log.write_events(store, f"{directory}/tensorboard")
    store.write_json(
        f"{directory}/{COMPLETE_FILE}",
        {
            "stage": stage.title,
            "fingerprint": stage.key.fingerprint,
            "steps": stage.settings.steps,
            "restarts": log.restarts,
            "bytes": len(weights),
            "seconds": round(log.seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def train_here(
    store: Store, stage: TrainStage, parts: Sequence[Part], device: str = "cpu"
) -> Model:
    """Run a whole training stage in this process, without Ray."""
    begin_stage(store, stage.key)
    trainer = stage.trainer(store, device)
    log = TrainLog(stage.title, stage.settings.steps, stage.settings.batch)
    pieces = stage.pieces(parts, rank=0, world=1, step=0)
    for batch in rebatch((stage.read(store, piece) for piece in pieces), stage.settings.batch):
        log.add(trainer.step(batch))
    log.add(trainer.flush())
    network = trainer.trained_network()
    save_checkpoint(store, stage, network, log)
    return network
