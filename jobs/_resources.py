"""Who gets which CPUs and GPUs of a cluster: arithmetic alone, without Ray.

Whatever is asked for, CPUs are left over for the tasks that read and write: models that hold every
CPU would wait for their input for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError

READ_CPUS = 0.25
"""CPUs a read task asks for; unlike the actors' share, so that Ray does not fuse the two."""
FINISH_CPUS = 0.5
"""CPUs a task asks for that fuses, refines, encodes and writes."""
SPARE_CPUS = 2
"""Logical CPUs that a local cluster has beyond its cores, so that reads never wait for a model."""


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
        share = (self.cpus - READ_CPUS - FINISH_CPUS) / actors
        options = {"num_cpus": min(1.0, max(0.01, math.floor(share * 100) / 100))}
        if self.gpus:
            options["num_gpus"] = 1 / math.ceil(actors / self.gpus)
        return options

    def training_cpus(self, settings: ClusterSettings) -> float:
        """CPUs of each training worker: what reads and augmentation leave."""
        if settings.train_cpus is not None:
            return settings.train_cpus
        kept = max(1.0, min(SPARE_CPUS, self.cpus / 4) + READ_CPUS)
        share = (self.cpus - kept) / self.training_workers(settings)
        return float(int(share)) if share >= 1 else max(0.25, math.floor(share * 100) / 100)

    def training_workers(self, settings: ClusterSettings) -> int:
        """Training processes: as set, else one a GPU, else one."""
        return settings.train_workers or max(1, int(self.gpus))

    def check_training_fits(self, settings: ClusterSettings) -> None:
        """Refuse a training that would wait for ever for what the cluster has not.

        Raises:
            ClusterError: The workers take every CPU, or want more GPUs than there are.
        """
        workers, cpus = self.training_workers(settings), self.training_cpus(settings)
        if workers * cpus + READ_CPUS > self.cpus:
            raise ClusterError(
                f"{workers} training workers of {cpus:g} CPUs leave none of the cluster's "
                f"{self.cpus:g} CPUs for reading, and would wait for ever: lower "
                "cluster.train_workers or cluster.train_cpus."
            )
        if self.gpus and workers > self.gpus:
            raise ClusterError(
                f"{workers} training workers want a GPU each, the cluster has {self.gpus:g}: "
                "lower cluster.train_workers."
            )
