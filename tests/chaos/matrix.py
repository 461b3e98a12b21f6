"""What is killed, where and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

EVALUATION = "evaluation"
UPKEEP = ("gc", "erase")
"""Commands of ``dcsp`` that remove: one process, which has no worker and no node."""
STAGES = (
    *("ingest", "saliency", "fcan", "cues_phase0", "joint_phase0", "predictions"),
    *(EVALUATION, *UPKEEP),
)
TOLD = "sigterm"
"""The driver again, told to end and not killed."""
DRIVERS = ("driver", TOLD)
VICTIMS = (*DRIVERS, "worker", "node")
TRAININGS = ("fcan", "joint_phase0")

TASKS = ("map_items", "apply")
WORKERS = {
    "ingest": TASKS,
    EVALUATION: TASKS,
    **dict.fromkeys(TRAININGS, ("RayTrainWorker",)),
}
"""How Ray names the processes that do a stage's work, where they are no model's actors."""
MODEL_ACTORS = ("MapWorker",)


@dataclass(frozen=True)
class Case:
    """One kill: in a stage, of a victim, at a moment that the seed decides."""

    stage: str
    victim: str
    seed: int

    @property
    def random(self) -> Random:
        """Random numbers of this case alone."""
        return Random(f"{self.stage} {self.victim} {self.seed}")

    @property
    def workers(self) -> tuple[str, ...]:
        """How the names of the processes begin that do the work."""
        return WORKERS.get(self.stage, MODEL_ACTORS)

    def moment(self, pieces: int) -> tuple[int, float]:
        """When to kill: after so many parts or checkpoints, and so many seconds more.

        Args:
            pieces: Parts or checkpoints of the whole stage.
        """
        random = self.random
        return random.randint(0, pieces // 2), random.uniform(0, 0.3)


def cases(stages: Iterable[str], victims: Iterable[str], seeds: int) -> list[Case]:
    """Every stage with every victim that it has, and every seed, seeds last."""
    every = itertools.starmap(Case, itertools.product(stages, victims, range(seeds)))
    return [case for case in every if case.stage not in UPKEEP or case.victim in DRIVERS]
