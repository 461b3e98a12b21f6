"""Mine cues alone: saliency where it is missing, then the cues of one phase.

    python jobs/mine_cues.py --config FILE [--phase N] [key=value …]

Phase 0 needs the trained FCAN, phase N the joint training of phase N − 1 (jobs/train.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.errors import ConfigError
from jobs._chain import Chain
from jobs._main import config_parser, read_config, run_job


def main(arguments: Sequence[str]) -> None:
    """Mine what the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument("--phase", type=int, default=0, help="phase of the cues; default 0")
    parsed = parser.parse_intermixed_args(arguments)
    config = read_config(parsed)
    if not 0 <= parsed.phase <= config.cues.adapt.rounds:
        raise ConfigError(
            f"--phase {parsed.phase} is not in 0 … cues.adapt.rounds={config.cues.adapt.rounds}."
        )
    chain = Chain(config)
    plan = chain.plan()
    chain.run(plan, plan.step("saliency"))
    needed = f"joint_phase{parsed.phase - 1}" if parsed.phase else "fcan"
    chain.require(plan, [needed], f"jobs/train.py --stage {needed}")
    step = plan.step(f"cues_phase{parsed.phase}")
    chain.run(plan, step)
    print(f"cues: {chain.store.path(step.stage.key.directory)}")


if __name__ == "__main__":
    run_job(main)
