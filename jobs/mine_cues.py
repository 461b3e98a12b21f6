"""Mine cues alone: the tables they need where those are missing, then the cues of one phase.

    python jobs/mine_cues.py --config FILE [--phase N] [key=value …]

The trainings before it must be done (jobs/train.py): for phase 0 of DCSP the FCAN, for phase N the
joint training of phase N − 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.errors import ConfigError
from dcsp.stages.step import Role
from dcsp.store.store import Store
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, read_config, run_job

OTHERS = dict.fromkeys((Role.FCAN, Role.HELPER, Role.JOINT), "jobs/train.py --stage {title}")
"""What cues are made of that this job does not make, and the job that makes it."""


def main(arguments: Sequence[str]) -> None:
    """Mine what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument("--phase", type=int, default=0, help="phase of the cues; default 0")
    parsed = parser.parse_intermixed_args(arguments)
    config = read_config(parsed)
    with hold(Store(config.store), "mine_cues", config) as lease:
        mine(Chain(config, lease, trains=False), parsed.phase)


def mine(chain: Chain, phase: int) -> None:
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


if __name__ == "__main__":
    run_job(main)
