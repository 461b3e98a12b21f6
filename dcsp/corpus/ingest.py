"""One ingest: from a listing to the next snapshot of its lineage; only what changed is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corpus.admission import DUPLICATE, plan_batches
from dcsp.corpus.catalogue import Changes, compare
from dcsp.corpus.compaction import Joiner, small_groups
from dcsp.corpus.growth import Holdings
from dcsp.corpus.listing import Base, Listing
from dcsp.corpus.pack import Batch, Record, Tally
from dcsp.corpus.sources.base import TRAIN
from dcsp.corpus.unknown_tags import UnknownTags, count_unknown
from dcsp.errors import CorpusError
from dcsp.tables.layout import CHECKPOINTS, LATEST, catalogue_file, rejected_file, stage_directories
from dcsp.tables.snapshot import Snapshot

Each = Callable[[Any], None]
"""Called with every result, in order."""
MapItems = Callable[[Callable[[Any], Any], Sequence[Any], Each], list[Any]]
"""Applies a function to items, here or over a cluster; results in the order of the items."""


@dataclass(frozen=True)
class Ingested:
    """What an ingest did.

    Attributes:
        snapshot: The corpus now.
        new: Images that were added, or replaced others of their ids.
        gone: Images of the snapshot before that are no longer in the corpus, replaced ones too.
    """

    snapshot: Snapshot
    new: int
    gone: int


def here(function: Callable[[Any], Any], items: Sequence[Any], each: Each) -> list[Any]:
    """One after the other in this process: the simplest :data:`MapItems`."""
    results = []
    for item in items:
        results.append(function(item))
        each(results[-1])
    return results


def ingest(
    listing: Listing, map_items: MapItems = here, on_rows: Callable[[int], None] = lambda _: None
) -> Ingested:
    """Read and pack what is new or changed, and save the snapshot of what is listed.

    Everything is written before the snapshot that names it: a killed ingest goes on where it was.

    Args:
        listing: What the source holds.
        map_items: Where batches are packed and parts joined.
        on_rows: Told of the rows that need not be read, and of those of every packed batch.

    Raises:
        CorpusError: Too many images were rejected or are gone, or none is left.
    """
    store, base = listing.packer.store, listing.base()
    changes = compare(base.holdings.catalogue, listing.rows)
    on_rows(len(listing.rows) - len(changes.candidates))
    _check_removed(listing, base, changes)
    unknown = UnknownTags()
    unknown.add(count_unknown(listing.rows, listing.packer.settings.mapper()))
    unknown.save(store, LATEST)
    records, tally = _pack(listing, base, changes, map_items, on_rows)
    grown = base.holdings.grow(changes, records)
    holdings = _join(listing, base, grown, map_items)
    snapshot = _snapshot(listing, base, holdings, records, tally)
    unknown.save(store, snapshot.fingerprint)
    store.write_table(rejected_file(snapshot.fingerprint), tally.rejected)
    store.write_table(catalogue_file(snapshot.fingerprint), holdings.catalogue)
    snapshot.save(store)
    new = sum(part["rows"] for part in _new_parts(base, records))
    return Ingested(snapshot, new, new + base.images - sum(part.live for part in snapshot.parts))


def batches_of(changes: Changes, part_rows: int) -> list[Batch]:
    """The batches that the candidates are read in."""
    known = changes.known
    return [
        Batch(rows, {r.image_id: known[r.image_id] for r in rows if r.image_id in known})
        for rows in plan_batches(changes.candidates, part_rows)
    ]


def _pack(
    listing: Listing,
    base: Base,
    changes: Changes,
    map_items: MapItems,
    on_rows: Callable[[int], None],
) -> tuple[list[Record], Tally]:
    packer = listing.packer
    unchanged = base.holdings.catalogue.filter(pa.array(changes.unchanged))
    tally = Tally(
        packer.settings.max_rejected_share,
        listing.duplicates,
        carried=_still_rejected(base.rejected, unchanged),
        unchanged=unchanged.num_rows,
    )

    def count(record: Record) -> None:
        tally.add(record)
        on_rows(record["listed"])

    try:
        records = map_items(packer, batches_of(changes, packer.settings.part_rows), count)
        tally.check()
    finally:  # dcsp rejected tells of an ingest that failed as well
        packer.store.write_table(rejected_file(LATEST), tally.rejected)
    return records, tally


def _still_rejected(rejected: pa.Table, unchanged: pa.Table) -> pa.Table:
    """What was said before of images whose listing did not change; duplicates are told anew."""
    stays = pc.is_in(rejected["image_id"], value_set=unchanged["image_id"])
    return rejected.filter(pc.and_not(stays, pc.equal(rejected["reason"], pa.scalar(DUPLICATE))))


def _check_removed(listing: Listing, base: Base, changes: Changes) -> None:
    """Stop where so much is gone that the source is more likely broken than changed."""
    limit = listing.packer.settings.max_removed_share
    is_image = base.holdings.catalogue["part"].to_numpy() >= 0
    gone = int(np.count_nonzero(is_image & ~changes.unchanged)) - len(changes.known)
    if gone > limit * base.images:
        raise CorpusError(
            f"{gone} of the {base.images} images of the corpus are no longer listed, more than "
            f"corpus.max_removed_share={limit:g}: check that the whole source is there, or raise "
            "the limit."
        )


def _join(listing: Listing, base: Base, grown: Holdings, map_items: MapItems) -> Holdings:
    """Small parts of the snapshot before together; those of today have no tables yet."""
    before = {part.name for part in base.holdings.parts}
    old = [index for index, part in enumerate(grown.parts) if part.name in before]
    part_rows = listing.packer.settings.part_rows
    groups = [
        tuple(old[index] for index in group)
        for group in small_groups([grown.parts[index] for index in old], part_rows)
    ]
    if not groups:
        return grown
    store = listing.packer.store
    tables = (name for name in stage_directories(store) if not name.startswith(f"{CHECKPOINTS}/"))
    pieces = [[grown.parts[index] for index in group] for group in groups]
    wholes = map_items(Joiner(store, tuple(tables)), pieces, lambda _: None)
    return grown.joined(dict(zip(groups, wholes, strict=True)))


def _snapshot(
    listing: Listing, base: Base, holdings: Holdings, records: Sequence[Record], tally: Tally
) -> Snapshot:
    if not holdings.parts:
        raise CorpusError("The corpus has no images: check corpus.root and corpus.splits.")
    classes = listing.packer.settings.classes
    new = _new_parts(base, records)
    return Snapshot(
        classes=tuple(classes),
        parts=holdings.parts,
        rejected=tally.lost,
        counts=holdings.counts(classes),
        lineage=listing.packer.lineage,
        added=base.added + sum(part["rows"] for part in new if part["split"] == TRAIN),
    )


def _new_parts(base: Base, records: Sequence[Record]) -> list[Record]:
    """Of the packed parts those that are not old ones which had been removed from the store."""
    names = {part.name for part in base.holdings.parts}
    return [r["part"] for r in records if r["part"] and r["part"]["name"] not in names]
