"""Train alone: the FCAN, or the joint training of one phase.

    python jobs/train.py --config FILE --stage fcan|joint_phase0|joint_phase1 … [key=value …]

The joint training of phase N needs the cues of phase N (jobs/mine_cues.py --phase N).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.errors import ConfigError
from dcsp.store.store import Store
from dcsp.training.stage import TrainStage
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, read_config, run_job


def main(arguments: Sequence[str]) -> None:
    """Train what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument("--stage", required=True, help="fcan, joint_phase0, joint_phase1 …")
    parsed = parser.parse_intermixed_args(arguments)
    config = read_config(parsed)
    with hold(Store(config.store), "train", config) as lease:
        train(Chain(config, lease), parsed.stage)


def train(chain: Chain, title: str) -> None:
    """Run one training, and what it needs that is neither a training nor a cue table."""
    plan = chain.plan()
    trainings = [step.title for step in plan if isinstance(step.stage, TrainStage)]
    if title not in trainings:
        raise ConfigError(f"--stage {title!r} is none of {', '.join(trainings)}.")
    step = plan.step(title)
    assert isinstance(step.stage, TrainStage)
    needed = {step.stage.saliency, step.stage.cues, step.stage.selfcues, step.stage.regions}
    for earlier in plan.before(step):
        if earlier.stage.key.directory not in needed:
            continue
        if earlier in plan.cue_steps or earlier.stage.key.directory == step.stage.selfcues:
            phase = earlier.title.rpartition("cues_phase")[2]
            chain.require(plan, [earlier.title], f"jobs/mine_cues.py --phase {phase}")
        else:
            chain.run(plan, earlier)
    chain.run(plan, step)
    print(f"checkpoint: {chain.store.path(step.stage.key.directory)}")


if __name__ == "__main__":
    run_job(main)
