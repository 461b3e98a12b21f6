"""The folder that masks are written to: nothing in it is replaced that is not their own.

Masks are named after images, and a new result replaces an earlier one. So the folder lies apart
from the images and the store, and it is new, empty, or marked by an earlier result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsp.errors import ConfigError
from dcsp.store.store import Store
from dcsp.tables.layout import MARKS, is_mark


@dataclass(frozen=True)
class Writer:
    """Who writes masks.

    Attributes:
        name: As the user calls it.
        mark_file: Says that what lies beside it was written by it.
        option: What its folder is called on its command line.
    """

    name: str
    mark_file: str
    option: str


PREDICT = Writer(MARKS["predict.json"], "predict.json", "--out")
REVIEW = Writer(MARKS["review.json"], "review.json", "--out")
EXPORT = Writer(MARKS["export.json"], "export.json", "OUT")


def claim_folder(writer: Writer, out: Path, apart: Mapping[str, Store]) -> Store:
    """Make sure that masks may be written to a folder, and mark it as theirs.

    Args:
        writer: Who writes.
        out: Folder to write to; made where it does not exist.
        apart: What masks must not mix with, by what the user calls it; only what lies in a folder
            of this machine can be in the way.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is, holds or lies in one of the others, or it holds what the writer
            did not write; nothing was written.
        StoreError: It cannot be written.
    """
    for name, other in apart.items():
        if other.is_local:
            _require_apart(writer, out, name, Path(other.location("")))
    folder = Store(str(out.absolute()))
    if not folder.list(""):
        mark_folder(writer, folder, {})
    elif not _is_marked(writer, folder):
        raise ConfigError(
            f"{writer.option} {out} holds files that {writer.name} did not write: name a new or an "
            "empty folder."
        )
    return folder


def mark_folder(writer: Writer, folder: Store, result: Mapping[str, Any]) -> None:
    """Write the mark, with what is to be known about the result."""
    folder.write_json(writer.mark_file, {"job": writer.name, **result})


def _is_marked(writer: Writer, folder: Store) -> bool:
    if not folder.exists(writer.mark_file):
        return False
    return is_mark(writer.mark_file, folder.read_json(writer.mark_file))


def _require_apart(writer: Writer, out: Path, name: str, other: Path) -> None:
    ours, theirs = out.resolve(), other.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(
            f"{writer.option} {out} and {name} {other} must not lie in one another: masks would "
            "mix with what is there; name a folder elsewhere."
        )
