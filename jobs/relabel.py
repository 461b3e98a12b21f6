"""The whole chain: ingest → saliency → FCAN → cues → joint → adapt → … → predict → report.

    python jobs/relabel.py --config jobs/configs/demo.yaml [key=value …] [--dry-run] [--until STAGE]

Submitting the same config again does nothing and says so; a killed job resumes; a changed setting
computes what depends on it and no more. The run that it ends with is published if its gates let it
(exit code 3 where not); submitted again with other gates, it is judged anew and computes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.config.file import dump_config
from dcsp.errors import ConfigError
from dcsp.progress import put, say
from dcsp.run.overview import describe
from dcsp.store.store import Store
from jobs._chain import Chain
from jobs._lease import hold
from jobs._main import config_parser, read_config, run_job, show_figures


def main(arguments: Sequence[str]) -> None:
    """Run the chain that the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument("--dry-run", action="store_true", help="print the stages and stop")
    parser.add_argument(
        "--until", metavar="STAGE", help="stop after this stage, such as cues_phase0"
    )
    parsed = parser.parse_intermixed_args(arguments)
    config = read_config(parsed)
    if parsed.dry_run:
        print(dump_config(config))
        print(describe(config))
        return
    tree = config.model_dump(mode="json")
    put(dump_config(config), sys.stderr, message="config", config=tree)
    with hold(Store(config.store), "relabel", config) as lease:
        run_chain(Chain(config, lease), parsed.until)


def run_chain(chain: Chain, until: str | None = None) -> None:
    """Run the stages in order, up to one of them or to the published run."""
    plan = chain.plan()
    titles = [step.title for step in plan]
    if until and until not in titles:
        raise ConfigError(f"--until {until!r} is none of {', '.join(titles)}.")
    for step in plan:
        chain.run(plan, step)
        if step.title == until:
            return
    if not any(chain.computed.values()):
        say("nothing to do: every stage of this config was done before")
    chain.finish(plan, partial(show_figures, chain.store))


if __name__ == "__main__":
    run_job(main)
