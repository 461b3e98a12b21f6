"""The log of a training: figures of every step, one status line, TensorBoard events at the end."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from dcsp.stages.libraries import NETWORKS, as_told
from dcsp.store.store import Store


class TrainLog:
    """Collects what :meth:`dcsp.training.loop.Trainer.step` returns.

    Args:
        title: Name of the stage.
        steps: Steps of the whole stage.
        batch: Images a step, over all workers.

    Attributes:
        history: Figures of every step.
        restarts: Steps from which the training went on after it had been interrupted.
        libraries: What it computed by at first and after each restart, each once in a row.
    """

    def __init__(self, title: str, steps: int, batch: int) -> None:
        self.title = title
        self.history: list[dict[str, float]] = []
        self.restarts: list[int] = []
        self.libraries: list[list[str]] = [as_told(NETWORKS)]
        self._steps, self._batch = steps, batch
        self._before = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of training, over all restarts that left a checkpoint."""
        return self._before + time.monotonic() - self._started

    @property
    def done(self) -> int:
        """Images trained on so far."""
        return int(self.history[-1]["step"]) * self._batch if self.history else 0

    def add(self, figures: dict[str, float]) -> None:
        """Keep the figures of one step; there are none at the first step on a GPU."""
        if figures:
            self.history.append({name: float(f"{value:.6g}") for name, value in figures.items()})

    def note(self) -> str:
        """The last loss, for a progress line."""
        if not self.history:
            return ""
        last = self.history[-1]
        return f"step {last['step']:.0f}/{self._steps}, loss {last['loss']:.3f}"

    def dump(self) -> str:
        """What :meth:`restore` needs, as JSON."""
        return json.dumps(
            {
                "history": self.history,
                "restarts": self.restarts,
                "seconds": self.seconds,
                "libraries": self.libraries,
            }
        )

    def restore(self, text: str, step: int) -> None:
        """Go on from a log that was dumped with a checkpoint of some step."""
        tree: dict[str, Any] = json.loads(text)
        self.history, self._before = tree["history"], tree["seconds"]
        self.restarts = [*tree["restarts"], step]
        before = tree.get("libraries", [])
        self.libraries = before if before[-1:] == self.libraries else before + self.libraries

    def write_events(self, store: Store, directory: str) -> None:
        """Write TensorBoard events of the whole history into a directory of the store."""
        from torch.utils.tensorboard import SummaryWriter

        with tempfile.TemporaryDirectory() as folder:
            writer = SummaryWriter(folder)
            for figures in self.history:
                for name, value in figures.items():
                    if name != "step":
                        writer.add_scalar(f"{self.title}/{name}", value, int(figures["step"]))
            writer.close()
            store.remove(directory)
            for file in Path(folder).iterdir():
                store.write_bytes(f"{directory}/{file.name}", file.read_bytes())
