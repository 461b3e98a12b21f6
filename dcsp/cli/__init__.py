"""The ``dcsp`` command: look into a store, check it, and take results out of it.

Every command here reads and none computes: jobs do that, whose package adds them to :data:`app`.
``publish`` and ``rollback`` move the one pointer, ``rejected --replay`` changes what the next job
does, ``gc --delete`` and ``erase`` remove. Exit codes are those of the jobs: 0 done, 2 the user's
mistake, 1 a fault, or a store that ``verify`` finds broken.
"""

from dcsp.cli import keep, look, settings, take
from dcsp.cli.base import app

__all__ = ["app", "keep", "look", "settings", "take"]
