"""The ``dcsp`` command: what :mod:`dcsp.cli` has, and the jobs.

    python jobs/cli.py --help

does in a clone what ``dcsp`` does where the package is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script, from any working directory
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "jobs"

from dcsp.cli import app
from dcsp.cli.base import AsJson, StoreArgument, as_path, put_json, write
from dcsp.errors import ConfigError

from . import compare, evaluate, ingest, mine_cues, plan, predict, relabel, train
from ._main import run_job
from ._options import SHIPPED, Job, JobCommand, shipped


def demo(store: StoreArgument = "./demo-store") -> None:
    """Run the whole chain on generated scenes, in minutes: nothing has to be brought."""
    relabel.relabel(str(SHIPPED["demo"]), [f"store={store}"])


JOBS = {
    job.name: job
    for job in (
        Job(demo),
        *(relabel.main, plan.main, predict.main, compare.main),
        *(ingest.main, mine_cues.main, train.main, evaluate.main),
    )
}
"""Command → the job that it is."""
for _job in JOBS.values():
    app.command(cls=JobCommand, rich_help_panel="Jobs")(_job.command)


@app.command()
def configs(as_json: AsJson = False) -> None:
    """List the configs that --config knows by name, and what each is for."""
    told = {name: first_line(path) for name, path in SHIPPED.items()}
    if as_json:
        put_json(told)
    else:
        width = max(map(len, told))
        typer.echo("\n".join(f"{name:{width}}  {line}" for name, line in told.items()))


def first_line(config: Path) -> str:
    """What a config is for."""
    return config.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


@app.command()
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As dcsp configs lists them.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=as_path, help="A new file; left out: standard output."),
    ] = None,
) -> None:
    """Write a shipped config with its comments, to make it your own."""
    config = shipped(name).read_bytes()
    if out is None:
        typer.echo(config, nl=False)
    elif out.exists():
        raise ConfigError(f"--out {out} is there already: name a new file.")
    else:
        write(out, config)


def main() -> None:
    """Run the command that this process was started for; jobs end as jobs do."""
    job = JOBS.get(next(iter(sys.argv[1:]), ""))
    if job:
        run_job(job, sys.argv[2:])
    else:
        app(prog_name="dcsp")


if __name__ == "__main__":
    main()
