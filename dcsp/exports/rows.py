"""Rows of a part as files: what was written, and what became of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dcsp.errors import ImageError, StoreError
from dcsp.exports.base import Format, Record, Row
from dcsp.exports.folders import Voc
from dcsp.exports.place import Place, UnnamedError
from dcsp.tables.schemas import OK


@dataclass(frozen=True)
class Exported:
    """What became of the images of a corpus; exports of parts add up.

    Attributes:
        written: Images with their masks.
        left_out: Rows without a label: images that failed or were skipped.
        untrusted: Labels that are trusted less than was asked for.
        elsewhere: Images of other splits.
        unnamed: Masks that no file can be named after.
        example: One of them and why, for a message.
    """

    written: int = 0
    left_out: int = 0
    untrusted: int = 0
    elsewhere: int = 0
    unnamed: int = 0
    example: str = ""

    def __add__(self, other: Exported) -> Exported:
        """Both together."""
        counts = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Exported(**{**counts, "example": self.example or other.example})

    @property
    def told(self) -> str:
        """A sentence on masks without a file; empty where each has one."""
        if not self.unnamed:
            return ""
        which = "1 mask has" if self.unnamed == 1 else f"{self.unnamed} masks have"
        return (
            f"{which} no file, such as that of {self.example}: its labels are in the table; "
            "rename the image and ingest again to have them as a file"
        )


class Written:
    """Rows that were written, and what became of the others.

    Args:
        made: The format.
        place: Where to write.
        min_trust: Least score of a row; None: any.
    """

    def __init__(self, made: Format, place: Place, min_trust: float | None = None) -> None:
        self._format, self._place = made, place
        # As scores are stored: one of 0.7 is not below 0.7.
        self._min_trust = None if min_trust is None else float(np.float32(min_trust))
        self.counts = Exported()
        self.records: list[Record] = []

    def rows(self, table: pa.Table, split: str, before: int) -> None:
        """Write the rows of a part.

        Args:
            table: ``image_id``, ``status``, ``label``, and ``corpus.bytes`` and ``trust.score``
                where they are asked for.
            split: Of the part.
            before: Rows of the corpus before it.
        """
        for index in range(table.num_rows):
            row = {name: table[name][index] for name in table.column_names}
            data = row["label"].as_py() if row["status"].as_py() == OK else None
            if data is None:
                self.counts += Exported(left_out=1)
            elif self._is_doubtful(row):
                self.counts += Exported(untrusted=1)
            else:
                image_id = str(row["image_id"].as_py())
                content = row["corpus.bytes"].as_py() if "corpus.bytes" in row else b""
                self._write(Row(before + index + 1, image_id, split, data, content))

    def _is_doubtful(self, row: dict[str, Any]) -> bool:
        if self._min_trust is None:
            return False
        score = row["trust.score"].as_py()
        return score is None or score < self._min_trust

    def _write(self, row: Row) -> None:
        files = len(self._place.files)
        try:
            self.records.append(self._format.write(row, self._place))
            self.counts += Exported(written=1)
        except UnnamedError as why:
            # An image without its mask would be taken for one that shows nothing.
            self._place.remove(self._place.files[files:])
            del self._place.files[files:]
            self.counts += Exported(unnamed=1, example=f"{row.image_id!r} ({why})")
        except ImageError as error:
            raise StoreError(
                f"The image {row.image_id} cannot be read any more ({error}): dcsp verify says "
                "what else is damaged; ingest it again."
            ) from error


def export_masks(labels: Iterable[pa.Table], out: Path) -> Exported:
    """Write labels as PNG files, whatever lies there.

    Args:
        labels: Parts with ``image_id``, ``status`` and ``label``, read one at a time.
        out: Folder to write to; made where it does not exist. An id with slashes gets subfolders.

    Returns:
        How many rows were written, left out, and cannot be files.

    Raises:
        StoreError: The folder cannot be written to, or a link in it leads outside.
    """
    place, done = Place(out), Exported()
    for part in labels:
        written = Written(Voc(()), place)
        written.rows(part, "", 0)
        done += written.counts
        place.settle()
    return done
