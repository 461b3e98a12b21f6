"""Train alone: the FCAN, a network that the cue method needs, or the joint training of one phase.

    python jobs/train.py --config FILE --stage fcan|joint_phase0|affinity … [key=value …]

The joint training of phase N needs the cues of phase N (jobs/mine_cues.py --phase N). What a
network learns from that no other job makes, such as the areas of AffinityNet, is made first.
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

MINE = "jobs/mine_cues.py --phase {phase}"
TRAIN = "jobs/train.py --stage {title}"
OTHERS = {
    **dict.fromkeys((Role.CUES, Role.SELFCUES), MINE),
    **dict.fromkeys((Role.FCAN, Role.HELPER, Role.JOINT), TRAIN),
}
"""What a training reads that it does not make itself, and the job that makes it."""


def main(arguments: Sequence[str]) -> None:
    """Train what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument("--stage", required=True, help="fcan, joint_phase0, affinity …")
    parsed = parser.parse_intermixed_args(arguments)
    config = read_config(parsed)
    with hold(Store(config.store), "train", config) as lease:
        train(Chain(config, lease), parsed.stage)


def train(chain: Chain, title: str) -> None:
    """Run one training, and what it reads that is neither a network nor the cues of a phase."""
    plan = chain.plan()
    step = next((step for step in plan.trainings if step.title == title), None)
    if step is None:
        titles = ", ".join(step.title for step in plan.trainings)
        raise ConfigError(f"--stage {title!r} is none of {titles}.")
    chain.provide(plan, step, OTHERS)
    chain.run(plan, step)
    print(f"checkpoint: {chain.store.path(step.stage.key.directory)}")


if __name__ == "__main__":
    run_job(main)
