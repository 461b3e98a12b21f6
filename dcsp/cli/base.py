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

from dcsp.config.text import user_path
from dcsp.errors import DcspError, StoreError
from dcsp.progress import show_any_text
from dcsp.store.lease import Lease, interrupt
from dcsp.store.store import Store

MISTAKE = 2


class _Group(TyperGroup):
    """Tells the user's mistakes in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        show_any_text()
        try:
            return super().invoke(ctx)
        except DcspError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(MISTAKE) from None


app = typer.Typer(
    cls=_Group,
    help="Look into a store of pixel labels, check it, and take results out of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
