"""From batches of listed rows to parts in the store.

A batch that was packed leaves a small record, named by a digest of its rows; packing it again
reads the record instead of the images. Records make ingest resumable and a second ingest free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus.admission import ingest_rows, lost_rows, part_name
from dcsp.corpus.catalogue import content_digests
from dcsp.corpus.sources.base import Source, SourceRow, listing_digest
from dcsp.errors import CorpusError
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import BATCHES, CORPUS_DIRECTORY, TRUTH_DIRECTORY, part_file
from dcsp.tables.schemas import OK, REJECTED
from dcsp.tables.snapshot import CorpusPart

PACK_VERSION = 4
"""Raised whenever the same rows would leave another record."""
CHECK_AFTER = 200
"""Rows seen before the share of rejected ones can stop an ingest early."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Rows to read together.

    Attributes:
        rows: Of one split, at most as many as a part has.
        known: Id → content digest of rows that are in the corpus already.
    """

    rows: Sequence[SourceRow]
    known: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Packer:
    """Packs batches of one source; picklable, so that any worker can do it."""

    store: Store
    source: Source
    settings: CorpusSettings

    def __call__(self, batch: Batch) -> Record:
        """Pack one batch, or read the record of a batch whose part is there already.

        Returns:
            ``listed``: the number of rows; ``part``: of those that are new or changed, ``None``
            where none is; ``rows``: id, content digest and tags of each of its rows, in order;
            ``same``: ids of those that are in the corpus as they are; ``rejected``: as the rejected
            table has them.
        """
        file = f"{BATCHES}/{self._digest(batch)}.json"
        if self.store.exists(file):
            record: Record = self.store.read_json(file)
            if self._is_there(record):
                return record
        record = self._pack(batch)
        self.store.write_json(file, record)
        return record

    @property
    def lineage(self) -> str:
        """Names the source and the settings that decide what becomes of it."""
        return digest([PACK_VERSION, self._deciding(), repr(self.source)])

    def listing(self, rows: Iterable[SourceRow]) -> str:
        """Digest of a whole listing and of the settings that decide what becomes of it."""
        return digest([self.lineage, listing_digest(rows)])

    def _pack(self, batch: Batch) -> Record:
        mapper = self.settings.mapper()
        corpus, truth, rejected = ingest_rows(self.source, batch.rows, mapper, self.settings)
        contents = content_digests(corpus, truth)
        rows = zip(*(corpus[name].to_pylist() for name in ("image_id", "tags")), strict=True)
        told = [(name, content, tags) for (name, tags), content in zip(rows, contents, strict=True)]
        is_new = [batch.known.get(name) != content for name, content, _ in told]
        record: Record = {
            "listed": len(batch.rows),
            "part": None,
            "rows": list(compress(told, is_new)),
            "same": [row[0] for row, new in zip(told, is_new, strict=True) if not new],
            "rejected": rejected.to_pylist(),
        }
        if any(is_new):
            corpus, truth = (table.filter(pa.array(is_new)) for table in (corpus, truth))
            name = part_name(corpus)
            self.store.write_table(part_file(CORPUS_DIRECTORY, name), corpus)
            file = write_truth(self.store, name, truth)
            record["part"] = CorpusPart(name, batch.rows[0].split, corpus.num_rows, file).as_dict()
        return record

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
        return decided | {"aliases": {}}  # a setting of earlier versions: stores go on


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


class Tally:
    """Counts what batches gave, and stops an ingest that rejects too much.

    Args:
        limit: ``max_rejected_share`` of the corpus settings.
        rejected: Rows that the listing itself rejected.
        carried: What was said before of images that need not be read again.
        unchanged: How many these are, the accepted ones included.
    """

    def __init__(
        self,
        limit: float,
        rejected: pa.Table,
        carried: pa.Table | None = None,
        unchanged: int = 0,
    ) -> None:
        self._limit = limit
        self._unchanged = unchanged
        self._listed = rejected.num_rows
        self._rejected: list[Record] = []
        self._lost = 0
        self._reasons: Counter[str] = Counter()
        self._example = ""
        self._reject(carried.to_pylist() if carried is not None else [])
        self._carried, self._lost = self._lost, 0
        self._reject(rejected.to_pylist())

    def add(self, record: Record) -> None:
        """Count one batch.

        Raises:
            CorpusError: Too large a share of the rows read so far was rejected.
        """
        self._listed += record["listed"]
        self._reject(record["rejected"])
        if self._listed >= CHECK_AFTER:
            self._judge(self._lost, self._listed)

    def check(self) -> None:
        """Compare the share of all rejected rows with the limit.

        Raises:
            CorpusError: It is past the limit; the message names the commonest reasons.
        """
        self._judge(self.lost, self._listed + self._unchanged)

    @property
    def lost(self) -> int:
        """Images that are not in the corpus."""
        return self._lost + self._carried

    def _judge(self, lost: int, listed: int) -> None:
        if listed and lost / listed > self._limit:
            common = self._reasons.most_common(4)
            told = ", ".join(f"{count} {reason}" for reason, count in common)
            raise CorpusError(
                f"{lost} of {listed} images were rejected ({told}; first: "
                f"{self._example}), more than corpus.max_rejected_share={self._limit:g}: mend the "
                "source or raise the limit; `dcsp rejected STORE` lists them."
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
