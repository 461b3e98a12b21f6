"""Folders of masks: VOC's palette, torchvision's pairs, FiftyOne's ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from dcsp.corrections.drawn import BACKGROUND_NAME, IGNORED_NAME
from dcsp.corrections.png import CLASSES_FILE, classes_text
from dcsp.exports.base import Format, Record, Records, Row, colour_of
from dcsp.exports.place import Place
from dcsp.labels import IGNORE
from dcsp.tables.codecs import encode_levels


class Voc(Format):
    """Palette PNGs named after the images, and lists of what their ids are."""

    has_images = False

    def write(self, row: Row, place: Place) -> Record:
        """The bytes of the table: a file decodes to exactly the table's labels."""
        place.write("", row.image_id, row.png)
        return {}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """``labelmap.txt`` as CVAT and Datumaro have it, ``classes.txt`` as ``corrections`` has."""
        names = [BACKGROUND_NAME, *self.names.values()]
        lines = [f"{n}:{','.join(map(str, colour_of(id_)))}::\n" for id_, n in enumerate(names)]
        return {
            "labelmap.txt": ["# label:color_rgb:parts:actions\n", *lines],
            CLASSES_FILE: [classes_text(names)],
        }


class Folder(Format):
    """Images and masks of equal names, in folders by split."""

    def write(self, row: Row, place: Place) -> Record:
        """``images/SPLIT/ID.jpg`` and ``masks/SPLIT/ID.png``."""
        place.write(f"images/{row.split}", row.image_id, *row.image)
        place.write(f"masks/{row.split}", row.image_id, row.png)
        return {}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """``classes.json``: id, name and colour of each."""
        return {"classes.json": [self.class_list]}


class FiftyOne(Format):
    """An ``ImageSegmentationDirectory`` for each split: its masks are grey, the ids themselves."""

    def write(self, row: Row, place: Place) -> Record:
        """``SPLIT/data/ID.jpg`` and ``SPLIT/labels/ID.png``."""
        place.write(f"{row.split}/data", row.image_id, *row.image)
        place.write(f"{row.split}/labels", row.image_id, encode_levels(row.label))
        return {}

    def documents(self, splits: Sequence[str], records: Records) -> Mapping[str, Iterable[str]]:
        """``mask_targets.json``: id → name, as a dataset of FiftyOne wants to be told."""
        names = {**self.names, IGNORE: IGNORED_NAME}  # FiftyOne knows 0 as background
        return {"mask_targets.json": [json.dumps(names, indent=1, ensure_ascii=False)]}
