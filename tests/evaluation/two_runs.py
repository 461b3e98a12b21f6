"""Stores with predictions of runs, written by hand: as much as a comparison of labels reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.corpus.catalogue import CATALOGUE
from dcsp.inference.prediction import list_areas
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import catalogue_file, part_file, run_file
from dcsp.tables.schemas import PREDICTIONS
from dcsp.tables.snapshot import TRAIN, CorpusPart, Snapshot

Label = NDArray[np.uint8] | None


@dataclass(frozen=True)
class Run:
    """A run to be written.

    Attributes:
        run_id: Its id.
        parts: Part → image id → its label; None of an image that failed.
        classes: Names in id order.
        table: Its predictions are in ``predictions/<table>``.
        dead: Part → positions of dead rows.
        val: Parts of the split ``val``.
        splits: Those that it labels.
    """

    run_id: str
    parts: Mapping[str, Mapping[str, Label]]
    classes: Sequence[str] = ("cat", "dog")
    table: str = ""
    dead: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    val: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "val")

    @property
    def directory(self) -> str:
        return f"predictions/{self.table or self.run_id}"

    def write(self, store: Store) -> None:
        parts = tuple(
            CorpusPart(
                name,
                "val" if name in self.val else TRAIN,
                len(images),
                dead=self.dead.get(name, ()),
            )
            for name, images in self.parts.items()
        )
        snapshot = Snapshot(tuple(self.classes), parts)
        snapshot.save(store)
        places = [
            {"image_id": image_id, "listed": 1, "content": 1, "tags": [], "part": part, "row": row}
            for part, (name, images) in enumerate(self.parts.items())
            for row, image_id in enumerate(images)
            if row not in self.dead.get(name, ())
        ]
        places.append({"image_id": "refused", "listed": 1, "content": 1, "part": -1, "row": -1})
        file = catalogue_file(snapshot.fingerprint)
        store.write_table(file, pa.Table.from_pylist(places, CATALOGUE))
        for name, images in self.parts.items():
            rows = [prediction(image_id, label) for image_id, label in images.items()]
            table = pa.Table.from_pylist(rows, PREDICTIONS)
            store.write_table(part_file(self.directory, name), table)
        self.write_record(store, snapshot.fingerprint)

    def write_record(self, store: Store, snapshot: str) -> None:
        record = {
            "run_id": self.run_id,
            "created": "2026-08-01T10:00:00Z",
            "config": {
                "corpus": {"classes": list(self.classes)},
                "predict": {"splits": list(self.splits)},
            },
            "snapshot": snapshot,
            "steps": [{"title": "predictions", "role": "predictions", "directory": self.directory}],
        }
        store.write_json(run_file(self.run_id), record)


def prediction(image_id: str, label: Label) -> dict[str, object]:
    """A row of a predictions table as the stage makes it."""
    if label is None:
        return {"image_id": image_id, "height": 4, "width": 4, "status": "error", "error": "torn"}
    ids = [int(i) for i in np.unique(label) if i != 255]
    return {
        "image_id": image_id,
        "height": label.shape[0],
        "width": label.shape[1],
        "label": encode_labels(label),
        "rule": "tags",
        "areas": list_areas(label, dict.fromkeys(ids, 0.5)),
        "status": "ok",
    }
