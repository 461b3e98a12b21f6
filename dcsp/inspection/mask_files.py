"""A folder of masks, each named after its image, and the names that a file system cannot give.

The ids of a corpus are texts; files are not always: ``a.png`` cannot be a mask and a folder, some
file systems take ``Cat`` for ``cat``, and names have a longest length. Such a mask has no file, its
labels stay in the table, and every other one is written.
"""

from __future__ import annotations

import errno
import unicodedata
import uuid
from pathlib import Path, PurePosixPath

from dcsp.errors import StoreError

_OF_THE_NAME = {
    errno.EISDIR: "a folder has the name of its mask",
    errno.EEXIST: "another mask has the name of its folder",
    errno.ENOTDIR: "another mask has the name of its folder",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EINVAL: "this file system has no such names",
    errno.EILSEQ: "this file system has no such names",
}
"""Errors that another name would not have."""
_SAME = "another image has this name on a file system that does not tell them apart"


class MaskFolder:
    """Writes masks below a folder, and nothing outside.

    Args:
        out: The folder; made where it does not exist.

    Raises:
        StoreError: It cannot be made or written to.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._taken: set[str] | None = set() if _folds_names(out) else None
        except OSError as error:
            raise _unwritable(out, error) from error

    def write(self, image_id: str, data: bytes, suffix: str = "png") -> str | None:
        """Write the mask of an image, or what else there is of it; one that is there is replaced.

        Args:
            image_id: With slashes, it gets subfolders.
            data: A PNG, or another file of that suffix.
            suffix: What its name ends in, without the dot.

        Returns:
            Why no file can have that name; None: it is written.

        Raises:
            StoreError: It cannot be written whatever its name: permissions, a full disk, a link
                that leads outside.
        """
        try:
            path = mask_path(self._out, image_id, suffix)
        except ValueError as strange:
            return str(strange)
        if not self.take(image_id):
            return _SAME
        try:
            _replace(path, data)
        except OSError as error:
            if error.errno in _OF_THE_NAME:
                return _OF_THE_NAME[error.errno]
            raise _unwritable(path, error) from error
        return None

    def take(self, image_id: str) -> bool:
        """Say that the name of an image is taken; False: that of another one is the same here."""
        if self._taken is None:
            return True
        folded = unicodedata.normalize("NFC", image_id).casefold()
        is_free = folded not in self._taken
        self._taken.add(folded)
        return is_free


def mask_path(out: Path, image_id: str, suffix: str = "png") -> Path:
    """File of an image's mask below ``out``.

    Raises:
        ValueError: The id is no relative path.
        StoreError: A link leads it outside ``out``.
    """
    parts = PurePosixPath(image_id).parts
    strange = not parts or image_id.startswith("/") or ".." in parts
    if strange or "\\" in image_id or "\0" in image_id:
        raise ValueError("the id is no relative path")
    path = out.joinpath(*parts[:-1], f"{parts[-1]}.{suffix}")
    try:
        inside = path.parent.resolve().is_relative_to(out.resolve())
    except OSError:  # a name that is too long: writing tells
        return path
    if not inside:
        raise StoreError(
            f"A link in {out} leads the mask of {image_id!r} outside: remove the link."
        )
    return path


def _folds_names(out: Path) -> bool:
    """Whether the file system takes names of other case or Unicode form for the same."""
    probe = out / f".tmp-{uuid.uuid4().hex}-\u00e9"
    probe.touch()
    try:
        others = (probe.name.upper(), unicodedata.normalize("NFD", probe.name))
        return any((out / other).exists() for other in others)
    finally:
        probe.unlink()


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write the mask {path} ({error}): check the folder, its permissions and the free "
        "space."
    )
