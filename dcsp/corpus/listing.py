"""What a source lists now, and the snapshot that the same listing became before."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus.ingest import select_rows
from dcsp.corpus.pack import Packer
from dcsp.corpus.source import Source, SourceRow, open_source
from dcsp.tables.mapping import CORPUS_DIRECTORY
from dcsp.tables.snapshot import Snapshot, snapshot_file
from dcsp.tables.store import Store


@dataclass(frozen=True)
class Listing:
    """The rows of a source, before any image is read.

    Attributes:
        rows: By split, in hash order of their ids.
        duplicates: Rows that were left out, as the rejected table has them.
        packer: Turns batches of the rows into parts of the store.
    """

    rows: list[SourceRow]
    duplicates: pa.Table
    packer: Packer

    @property
    def file(self) -> str:
        """File of the store that says which snapshot this listing became."""
        return f"corpus/listings/{self.packer.listing(self.rows)}.json"

    def known(self) -> tuple[Snapshot, float] | None:
        """The snapshot of an equal listing and the seconds it took.

        None before the first, and where a part has been removed since: it has to be packed again.
        """
        store = self.packer.store
        if not store.exists(self.file):
            return None
        found = store.read_json(self.file)
        if not store.exists(snapshot_file(found["snapshot"])):
            return None
        snapshot = Snapshot.load(store, found["snapshot"])
        there = store.parts(CORPUS_DIRECTORY)
        if any(part.name not in there for part in snapshot.parts):
            return None
        return snapshot, float(found["seconds"])

    def remember(self, snapshot: Snapshot, seconds: float) -> None:
        """Write down which snapshot the listing became."""
        content = {"snapshot": snapshot.fingerprint, "seconds": round(seconds, 3)}
        self.packer.store.write_json(self.file, content)


def list_corpus(
    store: Store, settings: CorpusSettings, seed: int, source: Source | None = None
) -> Listing:
    """List a source without reading any image.

    Args:
        store: Where parts will go.
        settings: What becomes of the rows.
        seed: Of generated scenes.
        source: What to list; left out: the source that the settings name.

    Raises:
        CorpusError: The source is not there or not laid out as its kind demands.
    """
    source = source or open_source(settings, seed)
    rows, duplicates = select_rows(source.list_rows(), settings.limit)
    return Listing(rows, duplicates, Packer(store, source, settings))
