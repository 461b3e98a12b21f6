"""Who gets which CPUs and GPUs of a cluster: arithmetic alone, without Ray.

Models and training workers are what CPUs are counted for. Tasks that read and write claim none, and
are limited in number instead: Ray can always run them, also where models hold every CPU, as they do
when a node was lost and its actors moved to the others.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError

SPARE_CPUS = 2
"""CPUs that models leave to reads and writes; a local cluster has them beyond its cores."""
SAMPLE_TASKS = 2
"""Tasks a training worker has reading and augmenting at once."""

TASK_CPUS = 1.0
"""What each task of ingest, evaluation and the probe asks for."""


@dataclass(frozen=True)
class Node:
    """What one node of a cluster has.

    Attributes:
        cpus: Its CPUs, as Ray counts them.
        gpus: Its GPUs.
        memory: Bytes that Ray counts as memory of tasks and actors; None where it does not tell.
        object_store: Bytes for what travels between tasks; None where Ray does not tell.
    """

    cpus: float
    gpus: float = 0.0
    memory: float | None = None
    object_store: float | None = None

    def room(self, cpus: float, gpus: float = 0.0) -> int:
        """How many workers of so many CPUs and GPUs it holds at once."""
        bounds = [
            math.floor(have / want + 1e-6)
            for have, want in ((self.cpus, cpus), (self.gpus, gpus))
            if want
        ]
        return min(bounds, default=0)


@dataclass(frozen=True)
class Resources:
    """What a connected cluster has.

    Attributes:
        cpus: Of all nodes.
        gpus: Of all nodes.
        nodes: How many live.
        shapes: Each of them; left out: as if one node had everything.
        free_cpus: CPUs that nobody held at the start of the job; None: not known.
        free_gpus: The same of GPUs.
        free_memory: The same in bytes.
        cores: Cores behind the CPUs, where those are more; None: as many.
    """

    cpus: float
    gpus: float
    nodes: int
    shapes: tuple[Node, ...] = ()
    free_cpus: float | None = None
    free_gpus: float | None = None
    free_memory: float | None = None
    cores: float | None = None

    @classmethod
    def here(cls, use_gpu: bool) -> Resources:
        """What one process of this machine has, without any cluster."""
        import torch  # for this alone

        cores = float(os.cpu_count() or 1)
        gpus = float(use_gpu and torch.cuda.is_available())
        return cls(cores, gpus, nodes=1, cores=1.0)  # one thing after the other

    def room(self, cpus: float, gpus: float = 0.0) -> int:
        """How many workers of so many CPUs and GPUs the nodes hold at once, each on one node."""
        return sum(node.room(cpus, gpus) for node in self._shapes)

    @property
    def memory(self) -> float | None:
        """Bytes of memory of all nodes; None where one does not tell."""
        sizes = [node.memory for node in self._shapes]
        return sum(size or 0.0 for size in sizes) if all(sizes) else None

    @property
    def largest_memory(self) -> float | None:
        """Bytes of memory of the node that has most; None where none is known."""
        return max((node.memory for node in self._shapes if node.memory), default=None)

    @property
    def object_store(self) -> float | None:
        """Bytes of the smallest object store of a node; None where none is known."""
        return min((node.object_store for node in self._shapes if node.object_store), default=None)

    @property
    def widest(self) -> float:
        """Most CPUs that one node has."""
        return max(node.cpus for node in self._shapes)

    def mining_actors(self, settings: ClusterSettings, parts: int) -> int:
        """Model actors for a stage of ``parts`` parts; reads and writes keep CPUs of their own."""
        return max(1, min(settings.actors or self._fitting_actors(), parts))

    def actor_options(self, actors: int) -> dict[str, float]:
        """Ray resources of each of some model actors: a CPU or less, a GPU or a share of one."""
        cpus = self.cpus / actors
        options = {}
        if self.gpus:
            per_gpu = math.ceil(actors / self.gpus)
            hosts = [node for node in self._shapes if node.gpus]
            cpus = min(cpus, *(node.cpus / (per_gpu * node.gpus) for node in hosts))
            options["num_gpus"] = 1 / per_gpu
        return {"num_cpus": min(1.0, max(0.01, math.floor(cpus * 100) / 100)), **options}

    def reading_tasks(self, actors: int) -> int:
        """Most tasks that read parts at once, for some model actors."""
        return max(4, 2 * actors)

    def finishing_tasks(self, actors: int) -> int:
        """Most tasks that fuse, refine, encode and write at once, beside some model actors."""
        return max(SPARE_CPUS, int(self.cpus) - actors)

    def training_cpus(self, settings: ClusterSettings) -> float:
        """CPUs of each training worker: what reads and augmentation leave, on one node each."""
        if settings.train_cpus is not None:
            return settings.train_cpus
        workers = self.training_workers(settings)
        share = (self.cpus - min(SPARE_CPUS, self.cpus / 2)) / workers
        for whole in range(int(share), 0, -1):
            if self.room(whole, self._training_gpus) >= workers:
                return float(whole)
        return max(0.25, math.floor((share if share < 1 else 0.5) * 100) / 100)

    def training_workers(self, settings: ClusterSettings) -> int:
        """Training processes: as set, else one a GPU, else one."""
        return settings.train_workers or max(1, int(self.gpus))

    def check_training_fits(self, settings: ClusterSettings) -> None:
        """Refuse a training that would wait for ever for what the cluster has not.

        Raises:
            ClusterError: The workers want more CPUs or GPUs than there are, or than nodes have.
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
        room = self.room(cpus, self._training_gpus)
        if workers > room:
            raise ClusterError(
                f"{workers} training workers of {worker_size(cpus, self._training_gpus)} each want "
                f"a place on one node each, and the nodes hold {room} ({self.described}): they "
                "would wait for ever; lower cluster.train_cpus or cluster.train_workers."
            )

    @property
    def described(self) -> str:
        """The nodes in words, those alike together."""
        sizes = [worker_size(node.cpus, node.gpus) for node in self._shapes]
        alike = {size: sizes.count(size) for size in sizes}
        return ", ".join(f"{count} of {size}" for size, count in alike.items())

    @property
    def _shapes(self) -> tuple[Node, ...]:
        return self.shapes or (Node(self.cpus, self.gpus),)

    @property
    def _training_gpus(self) -> float:
        return 1.0 if self.gpus else 0.0

    def _fitting_actors(self) -> int:
        kept = max(SPARE_CPUS, self.cpus / 4)
        wanted = max(1, int(self.gpus) if self.gpus else int(self.cpus - kept))
        options = self.actor_options(wanted)
        return max(1, min(wanted, self.room(options["num_cpus"], options.get("num_gpus", 0.0))))


def worker_size(cpus: float, gpus: float) -> str:
    """CPUs and GPUs in words."""
    words = [f"{cpus:g} CPU" + ("" if cpus == 1 else "s")]
    if gpus:
        words.append(f"{gpus:g} GPU" + ("" if gpus == 1 else "s"))
    return " and ".join(words)
