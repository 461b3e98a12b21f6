"""A source in memory, and ingesting it as the job does, without a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus import ingest as ingestion
from dcsp.corpus.ingest import Ingested
from dcsp.corpus.listing import Listing
from dcsp.corpus.pack import Packer
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.errors import ImageError
from dcsp.stages.parts import live_rows
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, STAGE_FILE, part_file
from dcsp.tables.snapshot import Snapshot

SETTINGS = CorpusSettings(kind="folder", root="r", classes=("cat", "dog"), part_rows=4)
TABLE = "saliency/0123456789abcdef0123"


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
    away: frozenset[str] = field(default=frozenset(), repr=False)
    reads: int = field(default=0, repr=False)

    def list_rows(self) -> Listed:
        rows = [
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
        return Listed.of(rows)

    def read(self, row: SourceRow) -> bytes:
        self.reads += 1
        if row.image_id in self.away:
            raise ImageError("http_busy", "its server says 503")
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
    return Listing.of(source.list_rows(), Packer(store, source, settings))


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


def live(store: Store, snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """Id, split, content, tags and mask of every image of a snapshot."""
    found = []
    for part in snapshot.parts:
        corpus = live_rows(store.read_table(part_file(CORPUS_DIRECTORY, part.name)), part.dead)
        masks: list[Any] = [None] * corpus.num_rows
        if part.truth:
            truth = live_rows(store.read_table(part.truth), part.dead)
            assert truth["image_id"].equals(corpus["image_id"])
            masks = truth["label"].to_pylist()
        for row, mask in zip(corpus.to_pylist(), masks, strict=True):
            assert row["split"] == part.split
            found.append((row["image_id"], row["split"], row["bytes"], row["tags"], mask))
    return found


def mine(store: Store, snapshot: Snapshot) -> int:
    """Make what is missing of a table that depends on the content; how many rows that is."""
    store.write_json(f"{TABLE}/{STAGE_FILE}", {"stage": "saliency"})
    done, made = store.parts(TABLE), 0
    for part in snapshot.parts:
        if part.name not in done:
            corpus = store.read_table(part_file(CORPUS_DIRECTORY, part.name))
            store.write_table(part_file(TABLE, part.name), mined(corpus))
            made += part.rows
    return made


def mined(corpus: pa.Table) -> pa.Table:
    columns = ("image_id", "sha256", "tags")
    rows = zip(*(corpus[name].to_pylist() for name in columns), strict=True)
    digests = [hashlib.sha256(repr(row).encode()).hexdigest() for row in rows]
    return pa.table({"image_id": corpus["image_id"], "found": pa.array(digests)})


def grown(source: Shelf, *names: str) -> Shelf:
    """The source with some images more."""
    images = source.images | {name: picture(100 + i) for i, name in enumerate(names)}
    return replace(source, images=images, reads=0)
