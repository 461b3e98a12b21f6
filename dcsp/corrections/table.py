"""The corrections table: label maps that people drew, image by image.

Half of them, by id, are learned from in the place of cues; the other half is what labels are
measured by. No network learns from images of another split, so there all are measured by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
from dcsp.tables.snapshot import TRAIN, Snapshot
from dcsp.text import quantity, shown

VERSION = 1
WRONG_SIZE = "wrong_size"
"""Reason of a correction of another size than its image."""


@dataclass(frozen=True)
class CorrectionStage(TableStage):
    """Corrections of every image that has one; of two, that of the later file.

    Attributes:
        files: Where they lie, pinned.
        corpus: What names of classes mean.
    """

    files: tuple[CorrectionSettings, ...]
    corpus: CorpusSettings

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

    def load(self, store: Store, device: Device) -> PartModel:
        """Read the files; there is no network."""
        by_id = {image_id: drawn for drawn in self.drawn() for image_id in drawn.ids()}
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
        snapshot: The corpus that is labelled.
    """

    stage: CorrectionStage
    snapshot: Snapshot

    def __call__(self, store: Store) -> str:
        """One line: how many there are, of which images there is none, and strange classes."""
        drawn = self.stage.drawn()
        ids = Ids(self.stage.corpus.mapper())
        told = [quantity(len(drawn), "correction")]
        file = catalogue_file(self.snapshot.fingerprint)
        if store.exists(file):
            names = {name for found in drawn for name in found.ids()}
            known = store.read_table(file, ["image_id"])["image_id"]
            here = {
                *known.filter(pc.is_in(known, value_set=pa.array(names, pa.string()))).to_pylist()
            }
            erased = load_erased(store)
            absent = [d.image for d in drawn if not here.intersection(d.ids())]
            absent = [name for name in absent if not erased.has(name)]
            if absent:
                told.append(f"{len(absent)} of no image of the corpus, such as {shown(absent[0])}")
        strange = {name: None for d in drawn for name in d.names if not ids.is_known(name)}
        if strange:
            listed = ", ".join(map(shown, list(strange)[:3]))
            told.append(f"pixels of what is no class are ignored: {listed}")
        return "; ".join(told)
