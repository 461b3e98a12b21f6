"""What changed between the published labels of two runs, part by part and image by image.

Which images are compared, :mod:`dcsp.evaluation.pairing` says; classes are those of equal names.
Images of one part are compared on any worker; what was found adds up to the figures of the runs.
It costs little: parts of a table that both runs publish are not read, and labels of equal bytes are
not decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.evaluation.confusion import confusion
from dcsp.labels import IGNORE
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import part_file
from dcsp.tables.snapshot import Part

MOST_CHANGED = 24
"""Images that are named as the most changed."""
_COLUMNS = ("image_id", "height", "width", "label", "areas")


class ClassPixels(TypedDict):
    """Pixels of one class, of images that both runs label."""

    before: int
    after: int
    both: int
    """Pixels that are of the class in both."""


class Against(TypedDict):
    """``against`` of ``metrics.json``: what changed against the run that was published before."""

    run: str
    images: int
    """Images that both runs were to label."""
    images_changed: int
    images_new: int
    images_gone: int
    pixels: int
    """Pixels compared: none of parts of a table that both runs publish, which are not read."""
    pixels_changed: int
    changed_share: float | None
    """In [0, 1]; None where no pixel was compared though images changed, or there is no image."""
    per_class: dict[str, ClassPixels]
    """Name → pixels, ``background`` first; empty where no pixel was compared."""


class ChangedImage(NamedTuple):
    """One image whose label changed.

    Attributes:
        share: Of its pixels, in (0, 1]; 1 where the sizes differ.
        image_id: Id of the image.
        before: Part of the first run's tables that it is in.
        after: Part of the second run's.
    """

    share: float
    image_id: str
    before: str
    after: str


@dataclass(frozen=True, eq=False)
class Changes:
    """Summable changes of labels.

    Attributes:
        counts: (C+2, C+2) int64 pixels: row the class before, column the class after, in the order
            of :func:`names`; the last of both is 255, and what an image without a label has.
        images: Images that both runs were to label.
        images_changed: Of those, images with any pixel of another label, or of another size.
        resized: Of those, images of another size, none of whose pixels are counted.
        lost: Images that had a label and have none.
        gained: Images that had none and have one.
        new: Images that only the second run labels.
        gone: Images that only the first run labelled.
        most: The most changed images, most first.
        shares: Sum over images of the share of their pixels that changed: 1 of another size.
    """

    counts: NDArray[np.int64]
    images: int = 0
    images_changed: int = 0
    resized: int = 0
    lost: int = 0
    gained: int = 0
    new: int = 0
    gone: int = 0
    most: tuple[ChangedImage, ...] = ()
    shares: float = 0.0

    @classmethod
    def empty(cls, classes: int) -> Changes:
        """No images, for C = ``classes`` classes beside background."""
        return cls(np.zeros((classes + 2, classes + 2), np.int64))

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return int(self.counts.sum())

    @property
    def pixels_changed(self) -> int:
        """Of those, pixels of another label."""
        return self.pixels - int(np.trace(self.counts))

    @property
    def changed_share(self) -> float | None:
        """Of the pixels of an image, in the mean over all images that are in both, in [0, 1].

        So images that one table has for both runs count, though their pixels are not. None where
        no image is in both.
        """
        return round(self.shares / self.images, 6) if self.images else None

    def __add__(self, other: Changes) -> Changes:
        """Both together.

        Raises:
            ValueError: The numbers of classes differ.
        """
        if self.counts.shape != other.counts.shape:
            raise ValueError(f"cannot add changes of {self.counts.shape} and {other.counts.shape}")
        return Changes(
            self.counts + other.counts,
            self.images + other.images,
            self.images_changed + other.images_changed,
            self.resized + other.resized,
            self.lost + other.lost,
            self.gained + other.gained,
            self.new + other.new,
            self.gone + other.gone,
            _most((*self.most, *other.most)),
            self.shares + other.shares,
        )


class Pairing(NamedTuple):
    """A part of the second run's corpus, and where the first run has its images.

    Attributes:
        after: The part.
        before: The parts of the first run's corpus that hold some of its images.
        images: Images that are in both.
    """

    after: Part
    before: tuple[Part, ...]
    images: int


class ClassPair(NamedTuple):
    """Pixels that were of one class and are of another.

    Attributes:
        before: Name of the class before: as :func:`names` has them.
        after: Name of the class after.
        pixels: How many.
        share: Of all pixels that changed, in (0, 1].
    """

    before: str
    after: str
    pixels: int
    share: float


def class_pairs(changes: Changes, classes: Sequence[str]) -> list[ClassPair]:
    """From which class to which pixels changed, most first.

    Args:
        changes: Of two runs.
        classes: Names of both runs' classes, as their comparison has them.
    """
    told = names(classes)
    moved = changes.counts - np.diag(np.diag(changes.counts))
    pairs = [
        ClassPair(told[row], told[column], n, n / changes.pixels_changed)
        for row, column in np.argwhere(moved).tolist()
        if (n := int(moved[row, column]))
    ]
    return sorted(pairs, key=lambda pair: -pair.pixels)


def names(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the rows and columns of :attr:`Changes.counts`."""
    return ("background", *classes, "ignored")


def against(changes: Changes, classes: Sequence[str], run_id: str) -> Against:
    """Changes as ``metrics.json`` has them.

    Args:
        changes: Of a run.
        classes: As :class:`Comparison` has them.
        run_id: The run that it was compared with.
    """
    table = changes.counts
    sums = (table.sum(axis=1), table.sum(axis=0), np.diag(table))
    told = zip(names(classes), *sums, strict=True)
    per_class: dict[str, ClassPixels] = {
        name: {"before": int(before), "after": int(after), "both": int(both)}
        for name, before, after, both in islice(told, len(classes) + 1)
    }
    return {
        "run": run_id,
        "images": changes.images,
        "images_changed": changes.images_changed,
        "images_new": changes.new,
        "images_gone": changes.gone,
        "pixels": changes.pixels,
        "pixels_changed": changes.pixels_changed,
        "changed_share": changes.changed_share,
        "per_class": per_class if changes.pixels else {},
    }


@dataclass(frozen=True)
class PartComparison:
    """Compares the labels of two runs in one part of the second run's corpus; picklable.

    Attributes:
        store: Of both.
        before: Directory of the first run's predictions.
        after: Directory of the second run's.
        ids_before: 256 bytes: for each value of a label its row of :attr:`Changes.counts`.
        ids_after: 256 bytes: for each value of a label its column.
        classes: Number of classes of both together.
    """

    store: Store
    before: str
    after: str
    ids_before: bytes
    ids_after: bytes
    classes: int

    def __call__(self, pairing: Pairing) -> Changes:
        """What changed in one part.

        Raises:
            StoreError: A table cannot be read.
        """
        after = self._read(self.after, [pairing.after])
        before = self._read(self.before, pairing.before)
        places = pc.index_in(after["image_id"], value_set=before["image_id"])
        after = after.filter(pc.is_valid(places))
        before = before.take(pc.drop_null(places))
        is_equal = np.zeros(after.num_rows, bool)
        if self.ids_before == self.ids_after:
            is_equal = pc.equal(after["label"], before["label"]).fill_null(False).to_numpy()
        counts, is_known = self._counted(after, is_equal)
        total = Changes(counts, images=after.num_rows)
        for row in np.flatnonzero(~is_known).tolist():
            total += self._image(before.slice(row, 1), after.slice(row, 1))
        return total

    def _read(self, directory: str, parts: Iterable[Part]) -> pa.Table:
        """Labels of the live images of some parts, with the ``part`` that each is in."""
        tables = []
        for part in parts:
            table = self.store.read_table(part_file(directory, part.name), _COLUMNS)
            table = live_rows(table, part.dead)
            tables.append(table.append_column("part", pa.repeat(part.name, table.num_rows)))
        return pa.concat_tables(tables).combine_chunks()

    def _counted(
        self, after: pa.Table, is_equal: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Pixels of equal labels by what their rows tell of areas, and which rows these are."""
        areas = after["areas"].combine_chunks()
        is_told = pc.is_valid(areas).to_numpy(zero_copy_only=False) & is_equal
        is_told &= pc.is_valid(after["height"]).to_numpy() & pc.is_valid(after["width"]).to_numpy()
        told = after.filter(pa.array(is_told))
        every = pc.list_flatten(told["areas"].combine_chunks())
        columns = np.frombuffer(self.ids_after, np.uint8)
        ids = columns[pc.struct_field(every, "class").to_numpy(zero_copy_only=False).astype(int)]
        pixels = pc.struct_field(every, "pixels").to_numpy(zero_copy_only=False)
        on_diagonal = np.zeros(self.classes + 2, np.int64)
        np.add.at(on_diagonal, ids, pixels)
        sizes = told["height"].to_numpy().astype(np.int64) * told["width"].to_numpy()
        on_diagonal[-1] += sizes.sum() - pixels.sum()  # areas leave 255 out
        return np.diag(on_diagonal), is_told

    def _image(self, before: pa.Table, after: pa.Table) -> Changes:
        """What changed in one image; both tables have the row of it alone."""
        none = Changes.empty(self.classes)
        old, new = self._label(self.before, before), self._label(self.after, after)
        if old is None and new is None:
            return none
        lost, gained = int(new is None), int(old is None)
        whole = next(labels for labels in (old, new) if labels is not None)
        missing = np.full_like(whole, IGNORE)
        old, new = (missing if labels is None else labels for labels in (old, new))
        counts, share = none.counts, 1.0
        resized = int(old.shape != new.shape)
        if not resized:
            rows, columns = (
                np.frombuffer(ids, np.uint8) for ids in (self.ids_before, self.ids_after)
            )
            # 255 is a class here: a pixel that is ignored no more has changed.
            counts = confusion(rows[old], columns[new], self.classes + 1)[:, :-1]
            share = 1 - int(np.trace(counts)) / old.size
        told = (before["part"][0].as_py(), after["part"][0].as_py())
        image = ChangedImage(share, after["image_id"][0].as_py(), *told)
        return Changes(
            counts,
            images_changed=int(share > 0),
            resized=resized,
            lost=lost,
            gained=gained,
            most=(image,) if share > 0 else (),
            shares=share,
        )

    def _label(self, directory: str, row: pa.Table) -> NDArray[np.uint8] | None:
        data = row["label"][0].as_py()
        try:
            return None if data is None else decode_labels(data)
        except ValueError as error:
            file = part_file(directory, row["part"][0].as_py())
            raise StoreError(
                f"{self.store.path(file)} holds a label that is none ({error}): remove it and "
                "submit the job again."
            ) from error


def _most(images: Iterable[ChangedImage]) -> tuple[ChangedImage, ...]:
    return tuple(sorted(images, key=lambda image: (-image.share, image.image_id))[:MOST_CHANGED])
