"""Who gets which CPUs and GPUs of a cluster: arithmetic alone, without Ray.

Models and training workers are what CPUs are counted for. Tasks that read and write claim none, and
are limited in number instead: Ray can always run them, also where models hold every CPU, as they do
when a node was lost and its actors moved to the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError

SPARE_CPUS = 2
"""CPUs that models leave to reads and writes; a local cluster has them beyond its cores."""


@dataclass(frozen=True)
class Resources:
    """What a connected cluster has."""

    cpus: float
    gpus: float
    nodes: int

    def mining_actors(self, settings: ClusterSettings, parts: int) -> int:
        """Model actors for a stage of ``parts`` parts; reads and writes keep CPUs of their own."""
        wanted = settings.actors
        if wanted is None:
            kept = max(SPARE_CPUS, self.cpus / 4)
            wanted = int(self.gpus) if self.gpus else int(self.cpus - kept)
        return max(1, min(wanted, parts))

    def actor_options(self, actors: int) -> dict[str, float]:
        """Ray resources of each of some model actors: a CPU or less, a GPU or a share of one."""
        options = {"num_cpus": min(1.0, max(0.01, math.floor(self.cpus / actors * 100) / 100))}
        if self.gpus:
            options["num_gpus"] = 1 / math.ceil(actors / self.gpus)
        return options

    def reading_tasks(self, actors: int) -> int:
        """Most tasks that read parts at once, for some model actors."""
        return max(4, 2 * actors)

    def finishing_tasks(self, actors: int) -> int:
        """Most tasks that fuse, refine, encode and write at once, beside some model actors."""
        return max(SPARE_CPUS, int(self.cpus) - actors)

    def training_cpus(self, settings: ClusterSettings) -> float:
        """CPUs of each training worker: what reads and augmentation leave."""
        if settings.train_cpus is not None:
            return settings.train_cpus
        share = (self.cpus - min(SPARE_CPUS, self.cpus / 2)) / self.training_workers(settings)
        return float(int(share)) if share >= 1 else max(0.25, math.floor(share * 100) / 100)

    def training_workers(self, settings: ClusterSettings) -> int:
        """Training processes: as set, else one a GPU, else one."""
        return settings.train_workers or max(1, int(self.gpus))

    def check_training_fits(self, settings: ClusterSettings) -> None:
        """Refuse a training that would wait for ever for what the cluster has not.

        Raises:
            ClusterError: The workers want more CPUs or GPUs than there are.
        """
        workers, cpus = self.training_workers(settings), self.training_cpus(settings)
        if workers * cpus > self.cpus:
            raise ClusterError(
                f"{workers} training workers of {cpus:g} CPUs want more than the cluster's "
                f"{self.cpus:g} CPUs, and would wait for ever: lower cluster.train_workers or "
                "cluster.train_cpus."
            )
        if self.gpus and workers > self.gpus:
            raise ClusterError(
                f"{workers} training workers want a GPU each, the cluster has {self.gpus:g}: "
                "lower cluster.train_workers."
            )
