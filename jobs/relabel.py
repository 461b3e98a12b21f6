"""The whole chain: ingest → saliency → FCAN → cues → joint → adapt → … → predict → report.

    python jobs/relabel.py --config jobs/configs/demo.yaml [key=value …] [--dry-run] [--until STAGE]

Submitting the same config again does nothing and says so; a killed job resumes; a changed setting
computes what depends on it and no more. The run that it ends with is published if its gates let it
(exit code 3 where not); submitted again with other gates, it is judged anew and computes nothing.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.config.file import dump_config
from dcsp.errors import ConfigError
from dcsp.progress import put, say
from dcsp.store.store import Store

from ._lease import hold
from ._main import run_job
from ._options import Config, DryRun, Job, Overrides, read_config

if TYPE_CHECKING:
    from ._chain import Chain


def relabel(
    config: Config,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    until: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Stop after this stage, such as cues_phase0."),
    ] = None,
) -> None:
    """Run the whole chain, from images and tags to published labels and a report."""
    settings = read_config(config, overrides)
    if dry_run:
        from dcsp.run.overview import describe

        print(dump_config(settings))
        print(describe(settings))
        return
    tree = settings.model_dump(mode="json")
    put(dump_config(settings), sys.stderr, message="config", config=tree)
    with hold(Store(settings.store), "relabel", settings) as lease:
        from ._chain import Chain

        run_chain(Chain(settings, lease), until)


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
    from ._figures import show_figures

    chain.finish(plan, partial(show_figures, chain.store))


main = Job(relabel)

if __name__ == "__main__":
    run_job(main)
