"""From batches of listed rows to parts in the store.

A batch that was packed leaves a small record, named by a digest of its rows; packing it again
reads the record instead of the images. Records make ingest resumable and a second ingest free. A
batch with an image that was lost for a reason that may pass is packed anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import Batch
from dcsp.corpus.catalogue import content_digests
from dcsp.corpus.held import Origin, Piece, compose, read_images
from dcsp.corpus.reading import SHOWN, read_rows
from dcsp.corpus.rejected import deferred_rows
from dcsp.corpus.sources.base import Source, SourceRow, listing_digest
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest, digest_lines
from dcsp.tables.layout import BATCHES, CORPUS_DIRECTORY, TRUTH_DIRECTORY, part_file
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import CorpusPart

PACK_VERSION = 4
"""Raised whenever the same rows would leave another record."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Packer:
    """Packs batches of one source; picklable, so that any worker can do it."""

    store: Store
    source: Source
    settings: CorpusSettings
    erased: frozenset[str] = frozenset()
    """sha256 of image files that are not taken again."""
    tables: tuple[str, ...] = ()
    """Directories of tables that depend on images alone: their rows move with held images."""

    def __call__(self, batch: Batch) -> Record:
        """Pack one batch, or read the record of a batch whose part is there already.

        Returns:
            ``listed``: the number of rows; ``part``: of those that are new or changed, ``None``
            where none is; ``rows``: id, content digest and tags of each of its rows, in order;
            ``same``: ids of those that are in the corpus as they are; ``masks``: id → class ids
            that its mask shows, of usable masks; ``rejected``: as the rejected table has them.
        """
        file = f"{BATCHES}/{self._digest(batch)}.json"
        if self.store.exists(file):
            record: Record = self.store.read_json(file)
            if self._is_there(record) and not deferred_rows(record["rejected"]):
                return record
        record = self._pack(batch)
        self.store.write_json(file, record)
        return record

    @property
    def lineage(self) -> str:
        """Names the source and the settings that decide what becomes of it."""
        return digest([PACK_VERSION, self._deciding(), repr(self.source)])

    @property
    def origin(self) -> Origin:
        """What the images of other lineages are compared by."""
        return Origin(self.lineage, digest(repr(self.source)), PACK_VERSION)

    def listing(self, rows: Iterable[SourceRow]) -> str:
        """Digest of a whole listing and of the settings that decide what becomes of it."""
        return digest([self.lineage, listing_digest(rows)])

    def _pack(self, batch: Batch) -> Record:
        mapper = self.settings.mapper()
        held = read_images(self.store, batch.held) if batch.held else {}
        corpus, truth, rejected = read_rows(
            self.source, batch.rows, mapper, self.settings, held, self.erased
        )
        masks = zip(truth["image_id"].to_pylist(), truth[SHOWN].to_pylist(), strict=True)
        truth = truth.drop_columns([SHOWN])
        contents = content_digests(corpus, truth)
        rows = zip(*(corpus[name].to_pylist() for name in ("image_id", "tags")), strict=True)
        told = [(name, content, tags) for (name, tags), content in zip(rows, contents, strict=True)]
        is_new = [batch.known.get(name) != content for name, content, _ in told]
        record: Record = {
            "listed": len(batch.rows),
            "part": None,
            "rows": list(compress(told, is_new)),
            "same": [row[0] for row, new in zip(told, is_new, strict=True) if not new],
            "masks": {name: ids for name, ids in masks if ids is not None},
            "rejected": rejected.to_pylist(),
        }
        if any(is_new):
            corpus, truth = (table.filter(pa.array(is_new)) for table in (corpus, truth))
            name = part_name(corpus)
            if batch.held:
                self._move(batch, batch.held, [image_id for image_id, *_ in record["rows"]], name)
            self.store.write_table(part_file(CORPUS_DIRECTORY, name), corpus)
            file = write_truth(self.store, name, truth)
            record["part"] = CorpusPart(name, batch.rows[0].split, corpus.num_rows, file).as_dict()
        return record

    def _move(self, batch: Batch, held: Piece, ids: Sequence[str], name: str) -> None:
        """Give a part the rows that tables have of its images under the name of an earlier part."""
        places = {row.image_id: place for row, place in zip(batch.rows, held.rows, strict=True)}
        if name != held.part:
            piece = Piece(held.part, tuple(places[image_id] for image_id in ids))
            compose(self.store, self.tables, name, [piece])

    def _is_there(self, record: Record) -> bool:
        """Whether the files of a packed batch are in the store: people remove damaged ones."""
        part = record["part"]
        if part is None:
            return True
        files = [part_file(CORPUS_DIRECTORY, part["name"]), part["truth"]]
        return all(self.store.exists(file) for file in files if file)

    def _digest(self, batch: Batch) -> str:
        rows = [(repr(row), batch.known.get(row.image_id)) for row in batch.rows]
        return digest([PACK_VERSION, self._deciding(), rows])

    def _deciding(self) -> Record:
        names = {"kind", "classes", "synonyms", "max_pixels", "part_rows"}
        decided = self.settings.model_dump(mode="json", include=names)
        own = {"distractors": self.settings.distractors, "mask_classes": self.settings.mask_classes}
        decided |= {name: list(value) for name, value in own.items() if value}
        return decided | {"aliases": {}}  # a setting of earlier versions: stores go on


def part_name(table: pa.Table) -> str:
    """Name of a corpus part: a digest of its ids, splits, contents and tags, in row order."""
    columns = (table[name].to_pylist() for name in ("image_id", "split", "sha256", "tags"))
    return digest_lines(json.dumps(values) for values in zip(*columns, strict=True))


def write_truth(store: Store, name: str, truth: pa.Table) -> str | None:
    """Write the ground truth of a part; its file, None where no row has any.

    Args:
        store: The store.
        name: Of the part.
        truth: Rows aligned with it.
    """
    if OK not in truth["status"].to_pylist():
        return None
    labels = digest([digest(str(label)) for label in truth["label"].to_pylist()])
    file = part_file(TRUTH_DIRECTORY, f"{name}-{labels[:8]}")
    store.write_table(file, truth)
    return file
