"""Running stages in this process, without Ray: a laptop, or a machine with a GPU and no cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from dcsp.progress import Progress
from dcsp.stages.parts import PartsMade
from dcsp.stages.stage import Device, TableStage
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.layout import RESUMABLE
from dcsp.tables.snapshot import Part
from dcsp.training.loop import state_from_bytes, state_to_bytes
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank, rebatch

_READERS = 2
"""Slices that are read and augmented ahead of a training."""


class Here:
    """An executor (:class:`dcsp.stages.stage.Executor`) of one process.

    Args:
        use_gpu: False leaves a GPU alone.
        check: Called with a stage's title after each thing done; what it raises ends the stage.
    """

    def __init__(self, use_gpu: bool = True, check: Callable[[str], None] = lambda _: None) -> None:
        self._check = check
        self._device = "cuda" if use_gpu and torch.cuda.is_available() else "cpu"

    def items(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        take: Callable[[Any], None],
        title: str,
    ) -> None:
        """One after the other."""
        for item in items:
            take(function(item))
            self._check(title)

    def parts(
        self, store: Store, stage: TableStage, parts: Sequence[Part], progress: Progress
    ) -> PartsMade:
        """One part after the other, by one model with all threads."""
        model = stage.load(store, Device(self._device, torch.get_num_threads()))
        summaries = []
        for part in parts:
            summaries.append(stage.run(store, model, part))
            progress.advance(part.rows, summaries[-1].statuses)
            self._check(stage.key.stage)
        return PartsMade(summaries, actors=1)

    def training(
        self, store: Store, stage: TrainStage, parts: Sequence[Part], progress: Progress
    ) -> None:
        """Train, or go on from what a killed training left; samples are read ahead in threads."""
        kept = f"{RESUMABLE}/{stage.key.fingerprint}/here.pt"
        trainer, log = stage.trainer(store, self._device), stage.log()
        if store.exists(kept):
            state = state_from_bytes(store.read_bytes(kept), stage.key.fingerprint)
            trainer.load_state_dict(state)
            log.restore(state["log"], trainer.step_number)
        pieces = stage.pieces(parts, Rank(), trainer.step_number)
        read, every = partial(stage.read, store), stage.settings.checkpoint_every
        with read_ahead(read, pieces, _READERS, _READERS) as samples:
            for batch in rebatch(samples, stage.settings.batch):
                log.add(trainer.step(batch))
                progress.reach(log.done, log.note())
                self._check(stage.title)
                if trainer.step_number % every == 0 and not trainer.finished:
                    log.add(trainer.flush())
                    state = {**trainer.state_dict(), "log": log.dump()}
                    store.write_bytes(kept, state_to_bytes(state, stage.key.fingerprint))
        log.add(trainer.flush())
        stage.save(store, trainer.trained_network(), log)
        store.remove(f"{RESUMABLE}/{stage.key.fingerprint}")
