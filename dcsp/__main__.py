"""``python -m dcsp``: the ``dcsp`` command where it is not on the path.

Jobs are in it where dcsp is installed; where it lies on the path alone, the library's own commands.
"""

from importlib.metadata import entry_points

from dcsp.cli import app

if __name__ == "__main__":
    scripts = entry_points(group="console_scripts", name="dcsp")
    next((script.load() for script in scripts), app)()
