"""What jobs share on the command line: options, shipped configs by name, and how one is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand
from typer.main import get_command

from dcsp.cli.base import UsageError, told_usage
from dcsp.config import RunConfig
from dcsp.config.file import load_config
from dcsp.config.text import user_path
from dcsp.errors import ConfigError
from dcsp.telemetry import work_on

from ._main import JSON, LOG_FORMAT
from ._places import check_places

SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "configs").glob("*.yaml"))}
"""Name of a config that comes with the package → its file."""


def shipped(name: str) -> Path:
    """The file of a shipped config.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in SHIPPED:
        raise ConfigError(
            f"There is no config {name!r}: name a file, or one of {', '.join(SHIPPED)}."
        )
    return SHIPPED[name]


def find_config(text: str) -> str:
    """The file that ``--config`` means: a path, or the name of a shipped config."""
    path = Path(user_path(text))
    is_name = "/" not in text and not path.suffix and not path.is_file()
    return str(shipped(text) if is_name else path)


Config = Annotated[
    str,
    typer.Option(
        metavar="FILE|NAME",
        parser=find_config,
        help="YAML file of settings, or the name of a shipped config (dcsp configs).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="key=value",
        show_default=False,
        help="Settings that replace the file's (dcsp config).",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done and is done, and stop.")
]


def _with_log(
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            LOG_FORMAT,
            help=f"Of all that is printed; {JSON}: an object a line, with time, level, run, stage.",
        ),
    ] = "text",
) -> None:
    """Has the option that every job has, and :func:`jobs._main.run_job` obeys."""


class JobCommand(TyperCommand):
    """A command that is a job."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        app = typer.Typer(add_completion=False)
        app.command()(_with_log)
        (log_format,) = (p for p in get_command(app).params if p.name == "log_format")
        log_format.expose_value = False
        self.params.append(log_format)


class Job:
    """What does with arguments what a command does with them.

    Args:
        command: Its parameters are the arguments and options of the job.
    """

    def __init__(self, command: Callable[..., None]) -> None:
        self.command = command
        self.name = command.__name__

    def __call__(self, arguments: Sequence[str]) -> None:
        """Do it.

        Raises:
            ConfigError: The arguments are not those of the command.
            DcspError: As the command.
        """
        app = typer.Typer(add_completion=False)
        app.command(cls=JobCommand)(self.command)
        command = get_command(app)
        try:  # not by main(), which makes an exit code of an interrupt
            with command.make_context(f"dcsp {self.name}", list(arguments)) as context:
                command.invoke(context)
        except UsageError as error:
            raise told_usage(error) from None
        except typer.Exit:  # help was asked for
            return


def read_config(config: str, overrides: Sequence[str] | None) -> RunConfig:
    """The config of a run.

    Raises:
        ConfigError: It cannot be read or is invalid, asks to learn from ground truth, or names
            places that a submitted job does not have.
    """
    settings = load_config(config, overrides or ())
    work_on(settings.name)
    check_places(settings)
    if settings.truth == "train":
        raise ConfigError(
            "truth=train makes networks learn from ground-truth masks, to compare others with: "
            "use `dcsp compare --ceiling`, or leave truth out."
        )
    return settings
