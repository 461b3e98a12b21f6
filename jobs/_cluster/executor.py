"""A Ray cluster as an executor of stages (:class:`dcsp.stages.stage.Executor`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dcsp.capacity.resources import Resources
from dcsp.config import ClusterSettings
from dcsp.progress import Progress
from dcsp.stages.parts import PartsMade
from dcsp.stages.stage import TableStage
from dcsp.store.store import Store
from dcsp.tables.snapshot import Part
from dcsp.training.stage import TrainStage

from .mapping import map_items, map_parts
from .training import train


class OnRay:
    """Spreads the work of stages over a cluster, which is joined when there is work.

    Args:
        settings: Numbers of actors and workers, limits.
        join: Joins the cluster, or refuses it, and tells what it has.
    """

    def __init__(self, settings: ClusterSettings, join: Callable[[], Resources]) -> None:
        self._settings, self._join = settings, join

    def items(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        take: Callable[[Any], None],
        title: str,
    ) -> None:
        """As tasks; results in the order of the items, few in flight at once."""
        self._join()
        map_items(function, items, self._settings, take, title=title)

    def parts(
        self, store: Store, stage: TableStage, parts: Sequence[Part], progress: Progress
    ) -> PartsMade:
        """With Ray Data: reads, model actors and writes overlap, each part goes whole."""
        return map_parts(store, stage, parts, self._join(), self._settings, progress)

    def training(
        self, store: Store, stage: TrainStage, parts: Sequence[Part], progress: Progress
    ) -> None:
        """With Ray Train: one process a GPU."""
        train(store, stage, parts, self._join(), self._settings, progress)
