"""Mine cues alone: the tables they need where those are missing, then the cues of one phase.

    python jobs/mine_cues.py --config FILE [--phase N] [key=value …]

The trainings before it must be done (`dcsp train`): for phase 0 of DCSP the FCAN, for phase N the
joint training of phase N − 1.
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

OTHERS = dict.fromkeys((Role.FCAN, Role.HELPER, Role.JOINT), "`dcsp train --stage {title}`")
"""What cues are made of that this job does not make, and the job that makes it."""


def mine(
    config: Config,
    overrides: Overrides = None,
    phase: Annotated[int, typer.Option(metavar="N", help="Phase of the cues.")] = 0,
) -> None:
    """Mine the cues of one phase, and the tables that they need where those are missing."""
    from ._chain import Chain

    settings = read_config(config, overrides)
    with hold(Store(settings.store), "mine", settings) as lease:
        mine_phase(Chain(settings, lease, trains=False), phase)


def mine_phase(chain: Chain, phase: int) -> None:
    """Mine the cues of one phase, by self-tags too, and what they read that no training makes."""
    plan = chain.plan()
    last = len(plan.cue_steps) - 1
    if not 0 <= phase <= last:
        raise ConfigError(f"--phase {phase} is not in 0 … {last}, the phases of the config.")
    steps = [step for step in plan.of(Role.SELFCUES, Role.CUES) if step.phase == phase]
    for step in steps:
        chain.provide(plan, step, OTHERS)
        chain.run(plan, step)
    print(f"cues: {chain.store.path(steps[-1].stage.key.directory)}")


main = Job(mine)

if __name__ == "__main__":
    run_job(main)
