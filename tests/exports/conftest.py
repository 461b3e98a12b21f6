"""A run over photographs in two splits, whose labels have holes, corners that touch, and 255."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dcsp.exports.rows import Exported
from dcsp.exports.run import Export, Request
from dcsp.inspection.destination import EXPORT, claim_folder
from dcsp.inspection.inventory import directory_of, find_run
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Snapshot
from tests.upkeep.conftest import Nights, two_nights  # noqa: F401

CLASSES = {1: "cat", 2: "dog"}
SIZE = (40, 48)


def blobs(seed: int) -> NDArray[np.uint8]:
    """HW uint8: areas of 0, 1, 2 and 255 with holes, and single pixels of each."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(4, *SIZE)), (0, 2, 2))
    label = np.array([0, 1, 2, 255], np.uint8)[smooth.argmax(axis=0)]
    strange = rng.random(SIZE) < 0.05
    label[strange] = rng.choice(np.array([0, 1, 2, 255], np.uint8), strange.sum())
    return label


@dataclass(frozen=True)
class Labelled:
    """A run and what it says of each image.

    Attributes:
        store: The store.
        images: Image id → split, bytes of the file, label (None: none), trust.
    """

    store: Store
    images: dict[str, dict[str, Any]]

    def export(self, out: Path, *splits: str, **request: Any) -> Exported:
        """What ``dcsp export`` does."""
        made = Export(self.store, find_run(self.store), Request(splits=splits, **request))
        return made.write(claim_folder(EXPORT, out, {"STORE": self.store}), out)

    def labels(self, *splits: str) -> dict[str, NDArray[np.uint8]]:
        """Image id → label of those that have one."""
        return {
            name: image["label"]
            for name, image in self.images.items()
            if image["label"] is not None and image["split"] in (splits or ("train", "val"))
        }


def rewrite(store: Store, file: str, **columns: list[Any]) -> None:
    """Give a part of a table other columns."""
    table = store.read_table(file)
    for name, values in columns.items():
        at = table.column_names.index(name)
        cells = pa.array(values, table.schema.field(name).type)
        table = table.set_column(at, table.schema.field(name), cells)
    store.write_table(file, table)


def read_all(store: Store) -> dict[str, dict[str, Any]]:
    """All that the tables say, read by Parquet alone."""
    run = find_run(store)
    found: dict[str, dict[str, Any]] = {}
    directories = [directory_of(run, role) for role in (Role.PREDICTIONS, Role.TRUST)]
    for part in Snapshot.load(store, run.record["snapshot"]).parts:
        corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name)).to_pylist()
        tables = [store.read_table(part_file(str(d), part.name)).to_pylist() for d in directories]
        for row, (image, label, trust) in enumerate(zip(corpus, *tables, strict=True)):
            if row in part.dead or not image["image_id"]:
                continue
            png = label["label"] if label["status"] == "ok" else None
            found[image["image_id"]] = {
                "split": image["split"],
                "bytes": image["bytes"],
                "label": None if png is None else decode_labels(png),
                "trust": trust["score"],
            }
    return found


def give_labels(store: Store) -> None:
    """Write other labels into the predictions of the published run, each of another trust."""
    predictions, trust = (
        str(directory_of(find_run(store), role)) for role in (Role.PREDICTIONS, Role.TRUST)
    )
    for number, part in enumerate(sorted(store.parts(predictions))):
        file = part_file(predictions, part)
        seeds = [3 * number + row for row in range(store.read_table(file).num_rows)]
        rewrite(store, file, label=[encode_labels(blobs(seed)) for seed in seeds])
        rewrite(store, part_file(trust, part), score=[seed / 20 for seed in seeds])


@pytest.fixture(scope="package")
def whole(two_nights: Nights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labelled]:  # noqa: F811
    """A run that no test changes."""
    store = two_nights.copied(tmp_path_factory.mktemp("exports") / "store").store
    give_labels(store)
    yield Labelled(store, read_all(store))


@pytest.fixture
def run(two_nights: Nights, tmp_path_factory: pytest.TempPathFactory) -> Labelled:  # noqa: F811
    """A run that a test may change before it reads it."""
    store = two_nights.copied(tmp_path_factory.mktemp("run") / "store").store
    give_labels(store)
    return Labelled(store, read_all(store))
