"""Commands that tell what can be set."""

from __future__ import annotations

from typing import Annotated

import typer

from dcsp.cli.base import app


@app.command()
def config(
    key: Annotated[
        str,
        typer.Argument(metavar="[KEY]", help="Such as fcan.steps, or fcan; left out: all blocks."),
    ] = "",
) -> None:
    """Explain a setting: what it does, its type, range and default, and the paper's value."""
    from dcsp.config.explain import explained, find_setting

    typer.echo(explained(find_setting(key)))
