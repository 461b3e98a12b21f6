"""Running ``dcsp`` as a user does, in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from dcsp.cli import app


def dcsp(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def line(text: str, start: str) -> list[str]:
    """Words of the one line that starts so."""
    [found] = [line for line in text.splitlines() if line.strip().startswith(start)]
    return found.split()
