"""From batches of listed rows to parts in the store, and from parts to a snapshot.

A batch that was packed leaves a small record, named by a digest of its rows; packing it again
reads the record instead of the images. Records make ingest resumable and a second ingest free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus.ingest import ingest_rows, lost_rows, part_name
from dcsp.corpus.source import TRAIN, Source, SourceRow, listing_digest
from dcsp.errors import CorpusError
from dcsp.labels import TagMapper
from dcsp.tables.fingerprint import digest
from dcsp.tables.mapping import CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import OK, REJECTED
from dcsp.tables.snapshot import CorpusPart, Snapshot
from dcsp.tables.store import Store

PACK_VERSION = 2
"""Raised whenever the same rows would leave another record."""
CHECK_AFTER = 200
"""Rows seen before the share of rejected ones can stop an ingest early."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Packer:
    """Packs batches of one source; picklable, so that any worker can do it."""

    store: Store
    source: Source
    settings: CorpusSettings

    def __call__(self, batch: Sequence[SourceRow]) -> Record:
        """Pack one batch, or read the record of a batch whose part is there already."""
        file = f"corpus/batches/{self._digest(batch)}.json"
        if self.store.exists(file):
            record: Record = self.store.read_json(file)
            if self._is_there(record):
                return record
        record = self._pack(batch)
        self.store.write_json(file, record)
        return record

    def listing(self, rows: Iterable[SourceRow]) -> str:
        """Digest of a whole listing and of the settings that decide what becomes of it."""
        return digest([PACK_VERSION, self._deciding(), listing_digest(rows)])

    def _pack(self, batch: Sequence[SourceRow]) -> Record:
        mapper = TagMapper(self.settings.classes, self.settings.aliases)
        corpus, truth, rejected = ingest_rows(self.source, batch, mapper, self.settings)
        record: Record = {
            "listed": len(batch),
            "part": None,
            "rejected": rejected.to_pylist(),
            "images": self._count_images(corpus),
        }
        if corpus.num_rows:
            name = part_name(corpus)
            self.store.write_table(part_file(CORPUS_DIRECTORY, name), corpus)
            part = CorpusPart(name, batch[0].split, corpus.num_rows, self._write_truth(name, truth))
            record["part"] = vars(part)
        return record

    def _count_images(self, corpus: pa.Table) -> Counter[str]:
        """Images of each class, by name."""
        tags: list[list[int]] = [row["tags"] for row in corpus.select(["tags"]).to_pylist()]
        return Counter(self.settings.classes[tag - 1] for of_image in tags for tag in of_image)

    def _is_there(self, record: Record) -> bool:
        """Whether the files of a packed batch are in the store: people remove damaged ones."""
        part = record["part"]
        if part is None:
            return True
        files = [part_file(CORPUS_DIRECTORY, part["name"]), part["truth"]]
        return all(self.store.exists(file) for file in files if file)

    def _write_truth(self, name: str, truth: pa.Table) -> str | None:
        if OK not in truth["status"].to_pylist():
            return None
        labels = digest([digest(str(label)) for label in truth["label"].to_pylist()])
        file = part_file("truth", f"{name}-{labels[:8]}")
        self.store.write_table(file, truth)
        return file

    def _digest(self, batch: Sequence[SourceRow]) -> str:
        return digest([PACK_VERSION, self._deciding(), [repr(row) for row in batch]])

    def _deciding(self) -> Record:
        return self.settings.model_dump(
            mode="json", include={"kind", "classes", "aliases", "max_pixels", "part_rows"}
        )


class Tally:
    """Counts what batches gave, and stops an ingest that rejects too much.

    Args:
        limit: ``max_rejected_share`` of the corpus settings.
        rejected: Rows that the listing itself rejected.
    """

    def __init__(self, limit: float, rejected: pa.Table) -> None:
        self._limit = limit
        self._listed = rejected.num_rows
        self._rejected: list[Record] = []
        self._lost = 0
        self._reasons: Counter[str] = Counter()
        self._example = ""
        self._parts: list[CorpusPart] = []
        self._images: Counter[str] = Counter()
        self._reject(rejected.to_pylist())

    def add(self, record: Record) -> None:
        """Count one batch.

        Raises:
            CorpusError: Too large a share of the rows seen so far was rejected.
        """
        self._listed += record["listed"]
        self._reject(record["rejected"])
        if record["part"]:
            self._parts.append(CorpusPart(**record["part"]))
            if self._parts[-1].split == TRAIN:
                self._images.update(record["images"])
        if self._listed >= CHECK_AFTER:
            self.check()

    def check(self) -> None:
        """Compare the share of rejected rows with the limit.

        Raises:
            CorpusError: It is past the limit; the message names the commonest reasons.
        """
        if self._listed and self._lost / self._listed > self._limit:
            common = self._reasons.most_common(4)
            told = ", ".join(f"{count} {reason}" for reason, count in common)
            raise CorpusError(
                f"{self._lost} of {self._listed} images were rejected ({told}; first: "
                f"{self._example}), more than corpus.max_rejected_share={self._limit:g}: mend the "
                "source or raise the limit."
            )

    def _reject(self, rows: Sequence[Record]) -> None:
        """Count rejected rows; a dropped tag or mask is told of and loses no image."""
        self._rejected += rows
        lost = lost_rows(rows)
        self._lost += len(lost)
        self._reasons.update(row["reason"] for row in lost)
        if lost and not self._example:
            self._example = f"{lost[0]['uri']}: {lost[0]['message']}"

    @property
    def rejected(self) -> pa.Table:
        """Every rejected row so far."""
        return pa.Table.from_pylist(self._rejected, REJECTED)

    def snapshot(self, classes: Sequence[str]) -> Snapshot:
        """The snapshot of all batches counted, in their order.

        Raises:
            CorpusError: No image is left, or too many were rejected.
        """
        self.check()
        if not self._parts:
            raise CorpusError("The corpus has no images: check corpus.root and corpus.splits.")
        return Snapshot(
            classes=tuple(classes),
            parts=tuple(self._parts),
            rejected=self._lost,
            counts={name: self._images[name] for name in classes},
        )
