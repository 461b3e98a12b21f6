"""What a source lists now, and the snapshots that its listings became before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from dcsp.config import CorpusSettings
from dcsp.corpus.batches import select_rows
from dcsp.corpus.catalogue import read_catalogue
from dcsp.corpus.pack import Packer
from dcsp.corpus.recovery import catalogue_of_parts, last_snapshot
from dcsp.corpus.rejected import deferred_rows, refused_rows, rejection
from dcsp.corpus.sources.base import Listed, Source, SourceRow
from dcsp.corpus.sources.files import told_kinds
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.shards import Spread, list_rows, not_now, without_erased
from dcsp.corpus.state import CorpusState
from dcsp.errors import StoreError
from dcsp.store.store import Store
from dcsp.tables.erased import ERASED, load_erased
from dcsp.tables.layout import (
    CORPUS_DIRECTORY,
    LINEAGES,
    LISTINGS,
    TRUTH_DIRECTORY,
    catalogue_file,
    part_file,
    rejected_file,
    snapshot_file,
)
from dcsp.tables.schemas import REJECTED
from dcsp.tables.snapshot import Snapshot
from dcsp.text import quantity, shown


@dataclass(frozen=True)
class PreviousCorpus:
    """The snapshot that an ingest starts from; empty for a source that was never ingested.

    Attributes:
        state: Its parts and its catalogue.
        rejected: What it left out.
        added: Training images ever added in its lineage.
    """

    state: CorpusState = field(default_factory=CorpusState)
    rejected: pa.Table = field(default_factory=REJECTED.empty_table)
    added: int = 0

    @property
    def images(self) -> int:
        """Images of the snapshot."""
        return sum(part.live for part in self.state.parts)


@dataclass(frozen=True)
class Listing:
    """The rows of a source, before any image is read.

    Attributes:
        rows: By split, in hash order of their ids.
        left_out: Duplicates and what was erased before, as the rejected table has them.
        packer: Turns batches of the rows into parts of the store.
        listed: All that the source holds.
    """

    rows: list[SourceRow]
    left_out: pa.Table
    packer: Packer
    listed: Listed

    @classmethod
    def of(cls, listed: Listed, packer: Packer) -> Listing:
        """What of a source is taken, and what becomes of it."""
        wanted = [row for row in listed.rows if row.reason != ERASED]
        erased = [row for row in listed.rows if row.reason == ERASED]
        rows, duplicates = select_rows(wanted, packer.settings.limit)
        told = [rejection(row, "list", ERASED, row.problem) for row in erased]
        left_out = pa.concat_tables([duplicates, pa.Table.from_pylist(told, REJECTED)])
        return cls(rows, left_out, packer, listed)

    @property
    def skipped(self) -> int:
        """Images that nobody asked for: of other splits, or past ``corpus.limit``."""
        beyond = len(self.listed.rows) - len(self.rows) - self.left_out.num_rows
        return self.listed.skipped + beyond

    def notes(self) -> Iterator[str]:
        """What whoever watches an ingest should know of files that it makes nothing of."""
        listed = self.listed
        if self.skipped:
            skipped = quantity(self.skipped, "image")
            yield f"{skipped} skipped: of no wanted split, or past corpus.limit"
        if self.erased:
            yield f"{quantity(self.erased, 'listed image')} left out: erased before"
        if listed.others:
            yield (
                f"not read, being no images, masks or tags that dcsp knows: "
                f"{told_kinds(listed.others)}; save pictures among them as .jpg or .png"
            )
        if listed.idle_masks:
            yield (
                f"{quantity(listed.idle_masks, 'mask')} called like no image, such as "
                f"{shown(listed.idle_mask)}: the mask of a/b.jpg is a/b.png below the folder of "
                "masks"
            )

    @property
    def erased(self) -> int:
        """How many of the listed images were erased, and stay out."""
        return self.left_out["reason"].to_pylist().count(ERASED)

    @property
    def file(self) -> str:
        """File of the store that says which snapshot this listing became."""
        return f"{LISTINGS}/{self.packer.listing(self.rows)}.json"

    @property
    def lineage_file(self) -> str:
        """File of the store that says which snapshot this source became last."""
        return f"{LINEAGES}/{self.packer.lineage}.json"

    def known(self) -> tuple[Snapshot, float] | None:
        """The snapshot of an equal listing and the seconds it took.

        None before the first, and where images have to be read: those of a part that has been
        removed since, and those that were deferred.
        """
        store = self.packer.store
        if not store.exists(self.file):
            return None
        found = store.read_json(self.file)
        snapshot = self._whole(found["snapshot"])
        return None if snapshot is None else (snapshot, float(found["seconds"]))

    def previous(self) -> PreviousCorpus:
        """The last snapshot of this source, which the next one shares its parts with.

        Images of parts that have been removed from the store are left out: they are read again. So
        are those that were deferred.
        """
        store = self.packer.store
        snapshot = last_snapshot(store, self.packer.lineage)
        if snapshot is None:
            return PreviousCorpus()
        missing = self._missing(snapshot)
        if not _is_described(store, snapshot.fingerprint):
            catalogue = catalogue_of_parts(store, snapshot, missing)
            return PreviousCorpus(CorpusState(snapshot.parts, catalogue), added=snapshot.added)
        catalogue = read_catalogue(store, catalogue_file(snapshot.fingerprint))
        rejected = store.read_table(rejected_file(snapshot.fingerprint))
        refused = [row["image_id"] for row in refused_rows(rejected.to_pylist())]
        state = CorpusState(snapshot.parts, catalogue).settled(missing, refused)
        return PreviousCorpus(state, rejected, snapshot.added)

    def remember(self, snapshot: Snapshot, seconds: float) -> None:
        """Write down which snapshot the listing became; with deferred images it is not done yet."""
        if not self._deferred(snapshot.fingerprint):
            content = {"snapshot": snapshot.fingerprint, "seconds": round(seconds, 3)}
            self.packer.store.write_json(self.file, content)
        self.lead(snapshot)

    def lead(self, snapshot: Snapshot) -> None:
        """Make a snapshot the one that the next ingest of this source starts from."""
        store = self.packer.store
        content = {"snapshot": snapshot.fingerprint, **self.packer.origin.told()}
        if not store.exists(self.lineage_file) or store.read_json(self.lineage_file) != content:
            store.write_json(self.lineage_file, content)

    def _whole(self, fingerprint: str) -> Snapshot | None:
        """A snapshot with all of its parts and tables, of which no image was deferred."""
        store = self.packer.store
        if not (store.exists(snapshot_file(fingerprint)) and _is_described(store, fingerprint)):
            return None
        snapshot = Snapshot.load(store, fingerprint)
        return None if self._missing(snapshot) or self._deferred(fingerprint) else snapshot

    def _deferred(self, fingerprint: str) -> bool:
        """Whether images of a snapshot were deferred."""
        file = rejected_file(fingerprint)
        if not self.packer.store.exists(file):
            return False
        return bool(deferred_rows(self.packer.store.read_table(file, ["reason"]).to_pylist()))

    def _missing(self, snapshot: Snapshot) -> list[int]:
        """Indices of parts that are not there, or without their ground truth."""
        store = self.packer.store
        names = store.parts(CORPUS_DIRECTORY)
        truths = {part_file(TRUTH_DIRECTORY, name) for name in store.parts(TRUTH_DIRECTORY)}
        return [
            index
            for index, part in enumerate(snapshot.parts)
            if part.name not in names or (part.truth and part.truth not in truths)
        ]


def _is_described(store: Store, fingerprint: str) -> bool:
    """Whether the tables that lie beside a snapshot are there: people remove damaged ones."""
    return all(store.exists(file(fingerprint)) for file in (catalogue_file, rejected_file))


def list_corpus(
    store: Store,
    settings: CorpusSettings,
    seed: int,
    source: Source | None = None,
    spread: Spread = not_now,
) -> Listing:
    """List a source without reading any image.

    Args:
        store: Where parts will go.
        settings: What becomes of the rows.
        seed: Of generated scenes.
        source: What to list; left out: the source that the settings name.
        spread: What opens shards that are new or have changed; left out: nothing does.

    Raises:
        CorpusError: The source is not there or not laid out as its kind demands, or has new shards
            that nothing opens.
        StoreError: A `dcsp erase` has not ended.
    """
    erased = load_erased(store)
    if erased.is_unfinished:
        raise StoreError(
            f"Images are being erased from the store {store.url}, or a `dcsp erase` was killed: "
            f"`dcsp erase {store.url}` ends it; submit the job again then."
        )
    source = source or open_source(settings, seed)
    listed = list_rows(store, source, settings.max_rejected_share, spread)
    packer = Packer(store, source, settings, erased.contents)
    return Listing.of(without_erased(listed, erased), packer)
