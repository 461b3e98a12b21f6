"""The folder of an export: what is written there, what is there already, and what goes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path

from dcsp.errors import StoreError
from dcsp.inspection.mask_files import MaskFolder, mask_path
from dcsp.store.store import TEMPORARY_PREFIX

File = tuple[str, str, str]
"""Folder below OUT, name, and suffix without the dot."""


def as_file(told: Iterable[str]) -> File:
    """A file as JSON has it."""
    folder, name, suffix = told
    return folder, name, suffix


class UnnamedError(Exception):
    """No file can be called so; its text says why."""


class Place:
    """Writes files below a folder, none outside, each whole or not at all.

    Args:
        out: The folder.
        journal: Is told of every file before it is written: whoever goes on after a writer that was
            killed knows what may be there. None: nobody does.

    Attributes:
        files: Those that were written since :meth:`settle`.
    """

    def __init__(self, out: Path, journal: Path | None = None) -> None:
        self._out, self._journal = out, journal
        self._folders: dict[str, MaskFolder] = {}
        self.files: list[File] = []

    def settle(self) -> None:
        """Begin a new list of files: somebody else knows of the old one."""
        self.files = []
        if self._journal:
            self._journal.unlink(missing_ok=True)

    def unsettled(self) -> list[File]:
        """What a writer before this one may have written and told nobody else of."""
        if not (self._journal and self._journal.exists()):
            return []
        lines = self._journal.read_text("utf-8").split("\n")[:-1]  # of the last the end may lack
        return [as_file(json.loads(line)) for line in lines]

    def write(self, folder: str, name: str, data: bytes, suffix: str = "png") -> str:
        """Write a file; one that is there is replaced.

        Args:
            folder: Below OUT; ``""``: itself.
            name: An id; with slashes, it gets subfolders.
            data: Content.
            suffix: What the name ends in, without the dot.

        Returns:
            Its path below OUT.

        Raises:
            UnnamedError: No file can have that name.
            StoreError: It cannot be written whatever its name.
        """
        if self._journal:
            try:
                with self._journal.open("a", encoding="utf-8") as sink:
                    sink.write(json.dumps([folder, name, suffix]) + "\n")
            except OSError as error:
                raise _unwritable(self._journal, error) from error
        if why := self._folder(folder).write(name, data, suffix):
            raise UnnamedError(why)
        self.files.append((folder, name, suffix))
        return f"{folder}/{name}.{suffix}".lstrip("/")

    def write_long(self, path: str, pieces: Iterable[str]) -> None:
        """Write a text that need not fit into memory.

        Args:
            path: Below OUT.
            pieces: The text.

        Raises:
            StoreError: It cannot be written.
        """
        target = mask_path(self._out, *path.rsplit(".", 1))
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as sink:
                sink.writelines(pieces)
            temporary.replace(target)
        except OSError as error:
            raise _unwritable(target, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, files: Iterable[File]) -> bool:
        """Whether all of some files are there; then no other image gets one of their names."""
        known = list(files)
        if not all(self._path(*file).is_file() for file in known):
            return False
        for folder, name, _ in known:
            self._folder(folder).take(name)
        return True

    def remove(self, files: Iterable[File]) -> None:
        """Remove files that an export wrote, and folders that hold nothing more.

        Raises:
            StoreError: One cannot be removed.
        """
        for file in files:
            try:
                path = self._path(*file)
            except ValueError:  # nothing was written: no file can be called so
                continue
            try:
                path.unlink(missing_ok=True)
                for parent in path.parents:
                    if parent == self._out or any(parent.iterdir()):
                        break
                    parent.rmdir()
            except FileNotFoundError:  # its folder is gone already
                continue
            except OSError as error:
                raise _unwritable(path, error) from error

    def _folder(self, name: str) -> MaskFolder:
        if name not in self._folders:
            self._folders[name] = MaskFolder(self._below(name))
        return self._folders[name]

    def _path(self, folder: str, name: str, suffix: str) -> Path:
        return mask_path(self._below(folder), name, suffix)

    def _below(self, folder: str) -> Path:
        """A folder in OUT, which no link may lead outside."""
        return mask_path(self._out, f"{folder}/mask").parent if folder else self._out


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"Cannot write {path} ({error}): check the path.")
