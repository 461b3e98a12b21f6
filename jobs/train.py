"""Train alone: the FCAN, a network that the cue method needs, or the joint training of one phase.

    python jobs/train.py --config FILE --stage fcan|joint_phase0|affinity … [key=value …]

The joint training of phase N needs the cues of phase N (`dcsp mine --phase N`). What a
network learns from that no other job makes, such as the areas of AffinityNet, is made first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.errors import ConfigError
from dcsp.stages.step import Role
from dcsp.store.store import Store

from ._lease import hold
from ._main import run_job
from ._options import Config, Job, Overrides, read_config

if TYPE_CHECKING:
    from ._chain import Chain

MINE = "`dcsp mine --phase {phase}`"
TRAIN = "`dcsp train --stage {title}`"
OTHERS = {
    **dict.fromkeys((Role.CUES, Role.SELFCUES), MINE),
    **dict.fromkeys((Role.FCAN, Role.HELPER, Role.JOINT), TRAIN),
}
"""What a training reads that it does not make itself, and the job that makes it."""


def train(
    config: Config,
    stage: Annotated[str, typer.Option(metavar="STAGE", help="fcan, joint_phase0, affinity …")],
    overrides: Overrides = None,
) -> None:
    """Train one network: the FCAN, one that the cue method needs, or that of a phase."""
    from ._chain import Chain

    settings = read_config(config, overrides)
    with hold(Store(settings.store), "train", settings) as lease:
        train_stage(Chain(settings, lease), stage)


def train_stage(chain: Chain, title: str) -> None:
    """Run one training, and what it reads that is neither a network nor the cues of a phase."""
    plan = chain.plan()
    step = next((step for step in plan.trainings if step.title == title), None)
    if step is None:
        titles = ", ".join(step.title for step in plan.trainings)
        raise ConfigError(f"--stage {title!r} is none of {titles}.")
    chain.provide(plan, step, OTHERS)
    chain.run(plan, step)
    print(f"checkpoint: {chain.store.path(step.stage.key.directory)}")


main = Job(train)

if __name__ == "__main__":
    run_job(main)
