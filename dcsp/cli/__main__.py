"""``python -m dcsp.cli``: the ``dcsp`` command where it is not on the path."""

from dcsp.cli import app

if __name__ == "__main__":
    app()
