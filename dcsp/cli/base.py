"""What every command of ``dcsp`` has: the app, its arguments, the lease, and files outside."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dcsp import __version__
from dcsp.config.text import user_path
from dcsp.errors import ConfigError, DcspError, StoreError
from dcsp.progress import as_json, show_any_text
from dcsp.store.lease import Lease, interrupt
from dcsp.store.store import Store

MISTAKE = 2


UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises where arguments are not those of a command; its module moves."""


def told_usage(error: Any) -> ConfigError:
    """A mistake in the arguments of a command, in one sentence."""
    told, command = error.format_message().rstrip("."), error.ctx.command_path
    return ConfigError(f"{told} ({command} --help says what there is).")


@contextmanager
def _telling_mistakes() -> Iterator[None]:
    """Tell the user's mistakes in one line, without a traceback."""
    try:
        yield
    except (DcspError, UsageError) as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        told = error if isinstance(error, DcspError) else told_usage(error)
        typer.echo(f"error: {told}", err=True)
        raise typer.Exit(MISTAKE) from None


class _Group(TyperGroup):
    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _telling_mistakes():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        show_any_text()
        with _telling_mistakes():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Group,
    help="Pixel labels from image tags: run jobs, look into a store, take results out of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"dcsp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None: ...


def as_path(text: str) -> Path:
    """A path that the user wrote, ``~`` expanded."""
    return Path(user_path(text))


StoreArgument = Annotated[
    str,
    typer.Argument(metavar="STORE", parser=user_path, help="Local path or s3://bucket/prefix."),
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="Id of a run; left out: the published one.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, for programs.")
]


def put_json(document: Any) -> None:
    """Print one document of JSON."""
    typer.echo(as_json(document))


@contextmanager
def held(store: Store, command: str, what: str) -> Iterator[Lease]:
    """Hold the lease of a store; a command that is told to end gives it back."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with Lease(store, command, what, on_loss=interrupt) as lease:
            yield lease
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write(out: Path, data: bytes) -> None:
    """Write what a command was asked to leave outside of the store."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise StoreError(f"Cannot write {out} ({error}): check the path.") from error
