"""A training stage: a recipe, the tables it learns from, what it starts from, its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from dcsp.config import NetworkSettings, PrecisionSettings, TrainSettings
from dcsp.errors import TrainingError
from dcsp.networks.checkpoint import checkpoint_is_complete, load_checkpoint, save_network
from dcsp.networks.model import Model
from dcsp.networks.weights import backbone_digest, backbone_weights
from dcsp.progress import Progress
from dcsp.stages.parts import CORPUS_INPUT, TableInput, begin_stage, live_rows, read_part
from dcsp.stages.stage import Executor, Stage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.layout import CHECKPOINTS, COMPLETE_FILE, HISTORY_FILE
from dcsp.tables.snapshot import Part
from dcsp.training.augment import make_samples
from dcsp.training.logs import TrainLog
from dcsp.training.loop import Trainer
from dcsp.training.recipe import Recipe, TrainingInput
from dcsp.training.stream import PartSlice, Rank, rank_share, rank_stream

VERSION = 1
SPEED_ALONE = {"checkpoint_every"}
"""Training settings that do not decide the result."""
WEIGHTS_ALONE = {"weights", "weights_sha256"}
"""Network settings that say where a file lies; its digest decides the result."""
_LIKE = ("batch", "crop", "train_backbone")
"""Settings of a training that decide how long a step takes, besides the network."""


@dataclass(frozen=True)
class TrainStage(Stage):
    """One training of a network (paper 4.3, 5.1).

    Attributes:
        recipe: What it builds and minimises, and its settings.
        network: Architecture and ImageNet weights.
        classes: Class names, background left out.
        precision: Arithmetic.
        seed: Of initialisation, data order and augmentation.
        corpus: Fingerprint of the images and tags that it learns from.
        tables: What else it learns from; never ground truth. Self-tags themselves are never
            learned from: a class that is none is not known to be absent.
        initial: Key of the training whose network it goes on with; None: the backbone's weights.
    """

    recipe: Recipe
    network: NetworkSettings
    classes: tuple[str, ...]
    precision: PrecisionSettings
    seed: int
    corpus: str
    tables: tuple[TrainingInput, ...] = ()
    initial: StageKey | None = None

    learns = True

    @cached_property
    def key(self) -> StageKey:
        """All that decides the checkpoint."""
        inputs = {"corpus": self.corpus, **{t.name: t.key.fingerprint for t in self.tables}}
        if self.initial:
            inputs["initial"] = self.initial.fingerprint
        return StageKey(
            self.recipe.title,
            VERSION,
            settings={
                "train": self.settings.decisive(SPEED_ALONE),
                "network": self.network.decisive(WEIGHTS_ALONE),
                "precision": self.precision.model_dump(mode="json"),
                **{f"{t.name}_pass": t.number for t in self.tables if t.number is not None},
                **self.recipe.decides,
            },
            inputs=inputs,
            weights={} if self.initial else {"backbone": backbone_digest(self.network)},
            seed=self.seed,
            home=CHECKPOINTS,
        )

    @property
    def title(self) -> str:
        """Name of the training, such as ``"joint_phase0"``."""
        return self.recipe.title

    @property
    def settings(self) -> TrainSettings:
        """Steps, batch, crop, learning rates."""
        return self.recipe.settings

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole schedule."""
        return self.settings.steps

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What a worker reads of every part."""
        tables = (TableInput(t.name, t.key.directory, (t.column,)) for t in self.tables)
        return (CORPUS_INPUT, *tables)

    def is_done(self, store: Store, parts: Sequence[Part]) -> bool:
        """See :class:`~dcsp.stages.stage.Stage`."""
        return checkpoint_is_complete(store, self.key.directory)

    def left(self, store: Store, parts: Sequence[Part]) -> int:
        """See :class:`~dcsp.stages.stage.Stage`."""
        return 0 if self.is_done(store, parts) else self.steps * self.settings.batch

    def compute(
        self, executor: Executor, store: Store, parts: Sequence[Part], title: str
    ) -> Callable[[float], dict[str, Any]]:
        """See :class:`~dcsp.stages.stage.Stage`; the training itself marks its checkpoint."""
        begin_stage(store, self.key)
        with Progress(title, self.steps * self.settings.batch) as progress:
            executor.training(store, self, parts, progress)
        return lambda _: self.record(store, parts)

    def record(self, store: Store, parts: Sequence[Part]) -> dict[str, Any]:
        """See :class:`~dcsp.stages.stage.Stage`."""
        record: dict[str, Any] = store.read_json(f"{self.key.directory}/{COMPLETE_FILE}")
        return record

    def costs_as(self, key: Mapping[str, Any]) -> bool:
        """Trainings of the same name but for its phase, network, batch and crop do."""
        own, settings = self.key, key.get("settings", {})
        if _without_phase(key.get("stage", "")) != _without_phase(own.stage):
            return False
        train, mine = settings.get("train", {}), own.settings["train"]
        same = settings.get("network") == own.settings["network"]
        return same and all(train.get(name) == mine[name] for name in _LIKE)

    def history(self, store: Store) -> list[dict[str, float]]:
        """See :class:`~dcsp.stages.stage.Stage`."""
        name = f"{self.key.directory}/{HISTORY_FILE}"
        found: list[dict[str, float]] = store.read_json(name) if store.exists(name) else []
        return found

    def read(self, store: Store, piece: PartSlice) -> dict[str, NDArray[Any]]:
        """The augmented samples of one slice of a part, a function of the seed and the slice."""
        whole = read_part(store, self.inputs, piece.part)
        rows = live_rows(whole, piece.dead)
        if rows.num_rows + len(piece.dead) < whole.num_rows:
            raise TrainingError(
                f"Images that {self.title} is to learn from have been erased since: set "
                "retrain=every, so that it learns from those that are there."
            )
        rows = rows.take(piece.rows(rows.num_rows))
        samples: dict[str, Any] = {}
        for table in self.tables:
            column = _map_of(rows[f"{table.name}.{table.column}"], table.number)
            known = samples.get(table.sample)
            samples[table.sample] = column if known is None else pc.coalesce(known, column)
        rows = rows.select(CORPUS_INPUT.columns)
        for name, column in samples.items():
            rows = rows.append_column(name, column)
        return make_samples(
            rows,
            self.settings,
            len(self.classes),
            self.seed,
            self.title,
            piece.epoch,
            self.network.max_side,
        )

    def pieces(self, parts: Sequence[Part], rank: Rank, step: int) -> list[PartSlice]:
        """What one rank still has to read from a step on."""
        dead = {part.name: part.dead for part in parts}
        pieces = rank_stream(
            [(part.name, part.live) for part in parts],
            self.seed,
            rank_share(self.settings.batch, *rank),
            self.steps,
            done=step,
            stage=self.title,
        )
        return [piece._replace(dead=dead[piece.part]) for piece in pieces]

    def build(self, store: Store) -> Model:
        """The network this stage starts from."""
        if self.initial:
            return load_checkpoint(store, self.initial.directory, self.recipe.model)
        torch.manual_seed(self.seed)
        weights = backbone_weights(self.network, self.key.weights["backbone"])
        return self.recipe.build(self.network, self.classes, weights)

    def trainer(self, store: Store, device: str, rank: Rank = Rank()) -> Trainer:  # noqa: B008
        """The network with its optimiser, at step 0."""
        return Trainer(
            self.build(store),
            self.settings,
            self.recipe.objective(rank.world),
            self.precision,
            self.recipe.block,
            device,
            rank,
            self.seed,
        )

    def log(self) -> TrainLog:
        """An empty log of this training."""
        return TrainLog(self.title, self.steps, self.settings.batch)

    def save(self, store: Store, network: Model, log: TrainLog) -> None:
        """Write the trained network and its log and, last, the mark that the stage is complete."""
        directory = self.key.directory
        size = save_network(store, directory, network)
        fetched = network.backbone.fetched
        store.write_json(f"{directory}/{HISTORY_FILE}", log.history)
        log.write_events(store, f"{directory}/tensorboard")
        store.write_json(
            f"{directory}/{COMPLETE_FILE}",
            {
                "stage": self.title,
                "fingerprint": self.key.fingerprint,
                "steps": self.steps,
                "restarts": log.restarts,
                "libraries": log.libraries,
                **({"backbone": f"{self.network.backbone} {fetched}"} if fetched else {}),
                "bytes": size,
                "history": digest(log.history),
                "seconds": round(log.seconds, 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
        )


def _without_phase(title: str) -> str:
    return title.rstrip("0123456789")


def _map_of(column: pa.ChunkedArray[Any], number: int | None) -> pa.ChunkedArray[Any]:
    """The chosen map of every row's list; null where there is none."""
    if number is None:
        return column
    chosen = [maps[number - 1] if maps else None for maps in column.to_pylist()]
    return pa.chunked_array([pa.array(chosen, pa.binary())])
