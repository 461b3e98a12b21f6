"""The corrections table: label maps that people drew, image by image.

Half of them, by id, are learned from in the place of cues; the other half is what labels are
measured by. No network learns from images of another split, so there all are measured by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.config import CorpusSettings, CorrectionSettings
from dcsp.corrections.drawn import Drawn, Ids, no_label
from dcsp.corrections.files import read_drawn
from dcsp.errors import ImageError
from dcsp.stages.parts import TableInput
from dcsp.stages.rows import RowResults
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.erased import load_erased
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, catalogue_file
from dcsp.tables.schemas import CORRECTIONS, HEAD_COLUMNS
from dcsp.tables.snapshot import TRAIN
from dcsp.text import quantity, shown

VERSION = 2
WRONG_SIZE = "wrong_size"
"""Reason of a correction of another size than its image."""


@dataclass(frozen=True)
class CorrectionStage(TableStage):
    """Corrections of every image that has one; of two, that of the later file.

    Attributes:
        files: Where they lie, pinned.
        corpus: What names of classes mean.
        snapshot: Fingerprint of the corpus whose images names of files mean.
    """

    files: tuple[CorrectionSettings, ...]
    corpus: CorpusSettings
    snapshot: str = ""

    schema = CORRECTIONS
    libraries = ("numpy", "pillow", "scikit-image")
    inputs = (TableInput("", CORPUS_DIRECTORY, (*HEAD_COLUMNS, "split")),)

    @cached_property
    def key(self) -> StageKey:
        """Content of the files and the names of classes decide the table."""
        synonyms = {name: list(tags) for name, tags in self.corpus.synonyms.items()}
        return StageKey(
            "corrections",
            VERSION,
            {
                "files": [place.digest for place in self.files],
                "classes": list(self.corpus.learned),
                "synonyms": synonyms,
            },
        )

    @property
    def is_of_images_alone(self) -> bool:
        """What a correction is for depends on the split of its image."""
        return False

    def drawn(self) -> list[Drawn]:
        """All corrections, in the order of their files.

        Raises:
            ConfigError: A file cannot be read.
        """
        return [drawn for place in self.files for drawn in read_drawn(place)]

    def images(self, store: Store, drawn: Sequence[Drawn]) -> list[str | None]:
        """The image that each correction is of: the likeliest of its ids that the corpus has.

        None where it has none. An image that was erased is still meant, and no other one by its
        name.

        Raises:
            StoreError: The catalogue cannot be read.
        """
        names = pa.array({name for found in drawn for name in found.ids()}, pa.string())
        rows = store.read_table(catalogue_file(self.snapshot), ["image_id", "part"])
        is_here = pc.and_(
            pc.is_in(rows["image_id"], names), pc.greater_equal(rows["part"], pa.scalar(0))
        )
        here, erased = {*rows["image_id"].filter(is_here).to_pylist()}, load_erased(store)
        return [next((i for i in d.ids() if i in here or erased.has(i)), None) for d in drawn]

    def _by_id(self, store: Store) -> dict[str, Drawn]:
        """Image id → its correction: that of the latest place, there of the likeliest name."""
        found: dict[str, Drawn] = {}
        for place in self.files:
            drawn = read_drawn(place)
            named = [(i, d) for i, d in zip(self.images(store, drawn), drawn, strict=True) if i]
            named.sort(key=lambda pair: -[*pair[1].ids()].index(pair[0]))
            found.update(named)
        return found

    def load(self, store: Store, device: Device) -> PartModel:
        """Read the files; there is no network."""
        by_id = self._by_id(store)
        ids = Ids(self.corpus.mapper())

        def model(rows: pa.Table) -> pa.Table:
            results: RowResults[bytes] = RowResults(rows.num_rows)
            learned = []
            for index, row in enumerate(rows.to_pylist()):
                learned.append(row["split"] == TRAIN and is_learned(row["image_id"]))
                if drawn := by_id.get(row["image_id"]):
                    try:
                        results.values[index] = _painted(drawn, row, ids)
                    except ImageError as error:
                        results.errors[index] = f"{error.reason}: {error}"
            labels = list(zip(results.values, learned, strict=True))
            for name, wanted in (("train", True), ("measure", False)):
                column = [label if own is wanted else None for label, own in labels]
                rows = rows.append_column(name, pa.array(column, pa.binary()))
            return results.onto(rows)

        return model


def is_learned(image_id: str) -> bool:
    """Whether networks learn from the correction of a training image: true of half of all ids."""
    return hashlib.sha256(image_id.encode()).digest()[0] % 2 == 0


def _painted(drawn: Drawn, row: Mapping[str, Any], ids: Ids) -> bytes:
    """The label PNG of one row."""
    size = (row["height"], row["width"])
    if drawn.size not in (None, size):
        raise ImageError(WRONG_SIZE, f"it is {drawn.size} pixels, its image {size}")
    try:
        return encode_labels(drawn.paint(size, ids))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise no_label(error) from error


@dataclass(frozen=True)
class Told:
    """Tells of corrections, once, before the first part.

    Attributes:
        stage: Makes their table.
    """

    stage: CorrectionStage

    def __call__(self, store: Store) -> str:
        """One line: how many there are, of which images there is none, and strange classes."""
        drawn = self.stage.drawn()
        ids = Ids(self.stage.corpus.mapper())
        told = [quantity(len(drawn), "correction")]
        images = self.stage.images(store, drawn)
        if absent := [d.image for d, image in zip(drawn, images, strict=True) if image is None]:
            told.append(f"{len(absent)} of no image of the corpus, such as {shown(absent[0])}")
        strange = {name: None for d in drawn for name in d.names if not ids.is_known(name)}
        if strange:
            listed = ", ".join(map(shown, list(strange)[:3]))
            told.append(f"pixels of what is no class are ignored: {listed}")
        return "; ".join(told)
