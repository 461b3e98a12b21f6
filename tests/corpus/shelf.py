"""A source in memory, and ingesting it as the job does, without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dcsp.config import CorpusSettings
from dcsp.corpus import ingest as ingestion
from dcsp.corpus.batches import select_rows
from dcsp.corpus.ingest import Ingested
from dcsp.corpus.listing import Listing
from dcsp.corpus.pack import Packer
from dcsp.corpus.sources.base import SourceRow
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.snapshot import Snapshot

SETTINGS = CorpusSettings(kind="folder", root="r", classes=("cat", "dog"), part_rows=4)


def picture(seed: int) -> bytes:
    """An image file: a PNG serves as a label map too."""
    return encode_labels(np.random.default_rng(seed).integers(0, 3, (4, 5), dtype=np.uint8))


@dataclass
class Shelf:
    """A source in memory that counts what is read of it."""

    images: dict[str, bytes] = field(repr=False)
    masks: dict[str, bytes] = field(default_factory=dict, repr=False)
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    times: dict[str, int] = field(default_factory=dict, repr=False)
    reads: int = field(default=0, repr=False)

    def list_rows(self) -> list[SourceRow]:
        return [
            SourceRow(
                name,
                f"shelf/{name}",
                "val" if name.startswith("val") else "train",
                self.tags.get(name, ("cat",)),
                f"shelf/{name}.png" if name in self.masks else None,
                f"{len(data)}-{self.times.get(name)}-{self.masks.get(name, b'').hex()[-40:]}",
            )
            for name, data in self.images.items()
        ]

    def read(self, row: SourceRow) -> bytes:
        self.reads += 1
        return self.images[row.image_id]

    def read_mask(self, row: SourceRow) -> bytes | None:
        return self.masks.get(row.image_id)


def shelf(train: int = 10, val: int = 3, bad: int = 0) -> Shelf:
    names = [f"t{i}" for i in range(train)] + [f"val{i}" for i in range(val)]
    images = {name: picture(i) for i, name in enumerate(names)}
    for number in range(bad):
        images[f"t{number}"] = b"no image"
    return Shelf(images)


def listing_of(store: Store, source: Shelf, settings: CorpusSettings = SETTINGS) -> Listing:
    rows, duplicates = select_rows(source.list_rows(), settings.limit)
    return Listing(rows, duplicates, Packer(store, source, settings))


def one_by_one(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    each: Callable[[Any], Any] = lambda _: None,
) -> list[Any]:
    """What a cluster would do with items, in this process."""
    results = []
    for item in items:
        results.append(function(item))
        each(results[-1])
    return results


def ingest_here(listing: Listing) -> Ingested:
    return ingestion.ingest(listing, one_by_one, lambda _: None)


def ingest(store: Store, source: Shelf, settings: CorpusSettings = SETTINGS) -> Snapshot:
    listing = listing_of(store, source, settings)
    snapshot = ingest_here(listing).snapshot
    listing.remember(snapshot, 1.0)
    return snapshot
