"""The folder that predictions are written to: nothing in it is replaced that is not their own.

Masks are named after images, and a new result replaces an earlier one. So the folder lies apart
from the images and the store, and it is new, empty, or marked by an earlier result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcsp.errors import ConfigError
from dcsp.tables.store import Store

MARK_FILE = "predict.json"
"""Says that what lies beside it was written by the job, and with which network."""
_JOB = "jobs/predict.py"


def claim_folder(out: Path, images: Path, store: Store) -> Store:
    """Make sure that predictions may be written to a folder, and mark it as theirs.

    Args:
        out: Folder to write to; made where it does not exist.
        images: Folder of the images to label.
        store: Store that holds the network.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is, holds or lies in one of the others, or it holds what is not a
            result of this job; nothing was written.
        StoreError: It cannot be written.
    """
    _require_apart(out, "--images", images)
    if store.is_local:
        _require_apart(out, "--store", Path(store.location("")))
    folder = Store(str(out.absolute()))
    if not folder.list(""):
        mark_folder(folder, {})
    elif not _is_marked(folder):
        raise ConfigError(
            f"--out {out} holds files that {_JOB} did not write: name a new or an empty folder."
        )
    return folder


def mark_folder(folder: Store, result: Mapping[str, Any]) -> None:
    """Write the mark, with what is to be known about the result."""
    folder.write_json(MARK_FILE, {"job": _JOB, **result})


def _is_marked(folder: Store) -> bool:
    if not folder.exists(MARK_FILE):
        return False
    mark = folder.read_json(MARK_FILE)
    return isinstance(mark, dict) and mark.get("job") == _JOB


def _require_apart(out: Path, option: str, other: Path) -> None:
    ours, theirs = out.resolve(), other.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(
            f"--out {out} and {option} {other} must not lie in one another: masks would mix with "
            "what is there; name a folder elsewhere."
        )
