"""YOLO: a text an image with a polygon for each region, as Ultralytics trains segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from dcsp.exports.base import Format, Record, Records, Row
from dcsp.exports.place import Place
from dcsp.exports.shapes import centred, outlines
from dcsp.tables.snapshot import TRAIN, VAL


class Yolo(Format):
    """``images/SPLIT``, ``labels/SPLIT``, and ``data.yaml``; classes count from 0 there."""

    def write(self, row: Row, place: Place) -> Record:
        """The image and its text; one without any class has an empty text."""
        # The text is looked for where the last folder "images" of a path is called "labels".
        name = "/".join("images_" if p == "images" else p for p in row.image_id.split("/"))
        place.write(f"images/{row.split}", name, *row.image)
        text = "".join(f"{line}\n" for line in self._lines(row))
        place.write(f"labels/{row.split}", name, text.encode(), "txt")
        return {}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """``data.yaml``, which wants both splits: where one is missing the other stands for it."""
        folders = {split: f"images/{split}" for split in splits}
        (first, *_) = folders.values()
        told = {split: folders.get(split, first) for split in (TRAIN, VAL)}
        names = {id_ - 1: name for id_, name in self.names.items()}
        text = yaml.safe_dump({**told, "names": names}, sort_keys=False, allow_unicode=True)
        return {"data.yaml": [text]}

    def _lines(self, row: Row) -> Iterator[str]:
        """Class, then x and y of each point as shares of the width and the height.

        Points are centres of pixels: Ultralytics fills a polygon with the pixels on its way.
        """
        height, width = row.label.shape
        for id_ in row.shown(self.names):
            for ring in outlines(row.label == id_):
                shares = (centred(ring) / (width, height)).ravel().tolist()
                yield " ".join([str(id_ - 1), *(f"{share:.6f}" for share in shares)])
