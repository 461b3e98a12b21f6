"""Images with the labels of two runs, read by the ids of both runs' classes together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.evaluation.changes import ChangedImage, Pairing
from dcsp.evaluation.pairing import Comparison
from dcsp.labels import IGNORE
from dcsp.report.panels import decode_image
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Part

Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ChangedLabels:
    """One image with the labels of two runs, whose ids are those of both runs' classes together.

    Attributes:
        image_id: Id of the image.
        share: Of its pixels that changed, in (0, 1].
        tags: Class ids, as the second run knows them.
        image: HWC uint8 RGB.
        before: HW uint8; None where the first run has no label of it.
        after: HW uint8; None where the second run has none.
    """

    image_id: str
    share: float
    tags: Sequence[int]
    image: NDArray[np.uint8]
    before: Labels | None
    after: Labels | None


class Change(NamedTuple):
    """What became of the label of one image.

    Attributes:
        share: Of its pixels in [0, 1] that have another label.
        where: HW bool, these; None where that cannot be said, or none has.
        before: HW uint8, the label before; None where there was none, or it is the same.
    """

    share: float
    where: NDArray[np.bool_] | None
    before: Labels | None


@dataclass(frozen=True, eq=False)
class Earlier:
    """The labels that a run before has of the images of a run.

    Attributes:
        store: Of both.
        comparison: Of both.
    """

    store: Store
    comparison: Comparison

    @cached_property
    def _pairings(self) -> dict[str, Pairing]:
        return {pairing.after.name: pairing for pairing in self.comparison.pairings}

    def of(self, part: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        """Labels, as the table has them, of those of some images that the run before was to label.

        Args:
            part: Name of a part of the run after.
            ids: Of images in it.

        Returns:
            Nothing of parts of a table that both runs publish: nothing changed there.

        Raises:
            StoreError: A table cannot be read.
        """
        if part not in self._pairings:
            return {}
        before = self._pairings[part].before
        wanted = [(image_id, theirs) for theirs in before for image_id in ids]
        rows = _rows(self.store, self.comparison.part.before, wanted, ("label",))
        return {image_id: row["label"] for image_id, row in rows}

    def change(self, before: bytes | None, after: bytes | None) -> Change:
        """What became of the label of an image."""
        work = self.comparison.part
        if before == after and work.ids_before == work.ids_after:
            return Change(0.0, None, None)
        old = _labels(before, work.ids_before, work.classes)
        share, where = compare(old, _labels(after, work.ids_after, work.classes))
        return Change(share, where, old)


def changed_images(
    store: Store, comparison: Comparison, most: Sequence[ChangedImage]
) -> list[ChangedLabels]:
    """Read the most changed images; of each table the parts that hold one, one after the other.

    Raises:
        StoreError: A table cannot be read.
    """
    work, pairings = comparison.part, comparison.pairings
    ours = {pairing.after.name: pairing.after for pairing in pairings}
    theirs = {part.name: part for pairing in pairings for part in pairing.before}
    after = [(image.image_id, ours[image.after]) for image in most]
    before = [(image.image_id, theirs[image.before]) for image in most]
    columns = ("height", "width", "tags", "bytes")
    images = dict(_rows(store, CORPUS_DIRECTORY, after, columns))
    labels = [
        dict(_rows(store, directory, wanted, ("label",)))
        for directory, wanted in ((work.before, before), (work.after, after))
    ]
    found = []
    for image in most:
        row = images[image.image_id]
        first, second = (table[image.image_id]["label"] for table in labels)
        found.append(
            ChangedLabels(
                image.image_id,
                image.share,
                [tag for tag in row["tags"] if work.ids_after[tag]],  # of distractors none
                decode_image(row, row["height"] * row["width"]),
                _labels(first, work.ids_before, work.classes),
                _labels(second, work.ids_after, work.classes),
            )
        )
    return found


def compare(before: Labels | None, after: Labels | None) -> tuple[float, NDArray[np.bool_] | None]:
    """What changed from one label map (HW uint8) to another.

    Returns:
        Share of pixels in [0, 1] whose label is another, 1 where sizes differ or one is missing,
        and where these pixels are, HW bool, None where that cannot be said.
    """
    if before is None and after is None:
        return 0.0, None
    if before is None or after is None or before.shape != after.shape:
        return 1.0, None
    changed = before != after
    return float(changed.mean()), changed


def _rows(
    store: Store, directory: str, wanted: Iterable[tuple[str, Part]], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id → row of a table, of images that are in given parts."""
    by_part: defaultdict[Part, list[str]] = defaultdict(list)
    for image_id, part in wanted:
        by_part[part].append(image_id)
    for part, ids in by_part.items():
        table = store.read_table(part_file(directory, part.name), ("image_id", *columns))
        table = live_rows(table, part.dead)
        is_wanted = pc.is_in(table["image_id"], value_set=pa.array(ids))
        for row in table.filter(is_wanted).to_pylist():
            yield row["image_id"], row


def _labels(data: bytes | None, ids: bytes, classes: int) -> Labels | None:
    """Labels by the ids of both runs' classes together."""
    if data is None:
        return None
    labels = np.frombuffer(ids, np.uint8)[decode_labels(data)]
    return np.where(labels > classes, np.uint8(IGNORE), labels)
