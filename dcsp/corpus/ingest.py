"""One ingest: from a listing to the next snapshot of its lineage; only what changed is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corpus.batches import Batch, plan_batches
from dcsp.corpus.catalogue import Changes, compare
from dcsp.corpus.compaction import Joiner, small_groups
from dcsp.corpus.held import find_held
from dcsp.corpus.listing import Listing, PreviousCorpus
from dcsp.corpus.mask_fit import judge_masks
from dcsp.corpus.pack import Record
from dcsp.corpus.rejected import RejectionCounter, is_of_image, refused_rows
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.state import CorpusState
from dcsp.corpus.unknown_tags import count_unknown, save_unknown
from dcsp.errors import CorpusError
from dcsp.tables.layout import CHECKPOINTS, LATEST, catalogue_file, rejected_file, stage_directories
from dcsp.tables.schemas import REJECTED
from dcsp.tables.snapshot import TRAIN, Snapshot

Take = Callable[[Any], None]
"""Called with every result, in order."""
MapItems = Callable[[Callable[[Any], Any], Sequence[Any], Take], list[Any]]
"""Applies a function to items, such as over a cluster; results in the order of the items."""


@dataclass(frozen=True)
class Ingested:
    """What an ingest did.

    Attributes:
        snapshot: The corpus now.
        new: Images that were added, or replaced others of their ids.
        gone: Images of the snapshot before that are no longer in the corpus, replaced ones too.
        deferred: Images that were lost for a reason that may pass; the next ingest asks again.
        held: New images that were in the store before, by other settings, and were not read.
    """

    snapshot: Snapshot
    new: int
    gone: int
    deferred: int = 0
    held: int = 0


def ingest(listing: Listing, map_items: MapItems, on_rows: Callable[[int], None]) -> Ingested:
    """Read and pack what is new or changed, and save the snapshot of what is listed.

    Everything is written before the snapshot that names it: a killed ingest goes on where it was.

    Args:
        listing: What the source holds.
        map_items: Where batches are packed and parts joined.
        on_rows: Told of the rows that need not be read, and of those of every packed batch.

    Raises:
        CorpusError: Too many images were rejected or are gone, or none is left.
    """
    store, previous = listing.packer.store, listing.previous()
    changes = compare(previous.state.catalogue, listing.rows)
    on_rows(len(listing.rows) - len(changes.candidates))
    _check_removed(listing, previous, changes)
    unknown = count_unknown(listing.rows, listing.packer.settings.mapper())
    save_unknown(store, LATEST, unknown)
    batches = batches_of(listing, changes)
    records, counter = _pack(listing, previous, changes, batches, map_items, on_rows)
    grown = previous.state.grow(changes, records)
    state = _join(listing, previous, grown, map_items)
    snapshot = _snapshot(listing, previous, state, records, counter)
    _check_books(listing, snapshot)
    save_unknown(store, snapshot.fingerprint, unknown)
    store.write_table(rejected_file(snapshot.fingerprint), counter.rejected)
    store.write_table(catalogue_file(snapshot.fingerprint), state.catalogue)
    snapshot.save(store)
    new = sum(part["rows"] for part in _new_parts(previous, records))
    gone = new + previous.images - sum(part.live for part in snapshot.parts)
    pairs = zip(records, batches, strict=True)
    held = sum(len(record["rows"]) for record, batch in pairs if batch.held)
    return Ingested(snapshot, new, gone, counter.deferred, held)


def _check_books(listing: Listing, snapshot: Snapshot) -> None:
    """See that all that was found is in the corpus, skipped, rejected or counted, and but once."""
    images = sum(part.live for part in snapshot.parts)
    skipped, others = listing.skipped, listing.listed.others.total()
    if listing.listed.found != images + skipped + snapshot.rejected + others:
        raise AssertionError(
            f"{listing.listed.found} files were found, {images} are in the corpus, {skipped} were "
            f"skipped, {snapshot.rejected} rejected, and {others} are no images"
        )


def batches_of(listing: Listing, changes: Changes) -> list[Batch]:
    """What is read together: images that the store holds as they lie there, then the others."""
    packer, known = listing.packer, changes.known
    part_rows = packer.settings.part_rows
    groups, others = find_held(packer.store, packer.origin, changes.candidates, part_rows)
    batches = [Batch(group.rows, _known(group.rows, known), group.piece) for group in groups]
    return batches + [Batch(rows, _known(rows, known)) for rows in plan_batches(others, part_rows)]


def _known(rows: Sequence[SourceRow], known: Mapping[str, int]) -> dict[str, int]:
    return {row.image_id: known[row.image_id] for row in rows if row.image_id in known}


def _pack(
    listing: Listing,
    previous: PreviousCorpus,
    changes: Changes,
    batches: Sequence[Batch],
    map_items: MapItems,
    on_rows: Callable[[int], None],
) -> tuple[list[Record], RejectionCounter]:
    packer = listing.packer
    unchanged = previous.state.catalogue.filter(pa.array(changes.unchanged))
    counter = RejectionCounter(
        packer.settings.max_rejected_share,
        listing.left_out,
        carried=_still_rejected(previous.rejected, unchanged),
        unchanged=unchanged.num_rows,
    )

    def count(record: Record) -> None:
        counter.add(record)
        on_rows(record["listed"])

    try:
        records = map_items(packer, batches, count)
        counter.check()
    finally:  # dcsp rejected tells of an ingest that failed as well
        packer.store.write_table(rejected_file(LATEST), counter.rejected)
    return records, counter


def _still_rejected(rejected: pa.Table, unchanged: pa.Table) -> pa.Table:
    """What was said before of images whose listing did not change; duplicates are told anew."""
    is_image = pc.greater_equal(unchanged["part"], pa.scalar(0))
    in_corpus, left_out = (
        pc.is_in(rejected["image_id"], value_set=unchanged.filter(rows)["image_id"])
        for rows in (is_image, pc.invert(is_image))
    )
    stays = refused_rows(rejected.filter(left_out).to_pylist())
    stays += [row for row in rejected.filter(in_corpus).to_pylist() if is_of_image(row)]
    return pa.Table.from_pylist(stays, REJECTED)


def _check_removed(listing: Listing, previous: PreviousCorpus, changes: Changes) -> None:
    """Stop where so much is gone that the source is more likely broken than changed."""
    limit = listing.packer.settings.max_removed_share
    is_image = previous.state.catalogue["part"].to_numpy() >= 0
    gone = int(np.count_nonzero(is_image & ~changes.unchanged)) - len(changes.known)
    if gone > limit * previous.images:
        raise CorpusError(
            f"{gone} of the {previous.images} images of the corpus are no longer listed, more than "
            f"corpus.max_removed_share={limit:g}: check that the whole source is there, or raise "
            "the limit."
        )


def _join(
    listing: Listing, previous: PreviousCorpus, grown: CorpusState, map_items: MapItems
) -> CorpusState:
    """Small parts of the snapshot before together; those of today have no tables yet."""
    before = {part.name for part in previous.state.parts}
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
    listing: Listing,
    previous: PreviousCorpus,
    state: CorpusState,
    records: Sequence[Record],
    counter: RejectionCounter,
) -> Snapshot:
    if not state.parts and counter.deferred:
        raise CorpusError(
            f"None of the images could be read yet, {counter.deferred} of them for reasons that "
            "may pass: submit the job again later; `dcsp rejected STORE` lists them."
        )
    if not state.parts:
        raise CorpusError("The corpus has no images: check corpus.root and corpus.splits.")
    settings = listing.packer.settings
    classes = settings.learned
    new = _new_parts(previous, records)
    masks = judge_masks(
        state.catalogue,
        classes,
        is_named=bool(settings.mask_classes),
        distractors=len(settings.distractors),
    )
    return Snapshot(
        classes=tuple(classes),
        parts=state.parts,
        rejected=counter.lost,
        counts=state.counts(classes),
        lineage=listing.packer.lineage,
        added=previous.added + sum(part["rows"] for part in new if part["split"] == TRAIN),
        masks=replace(masks, idle=listing.listed.idle_masks),
    )


def _new_parts(previous: PreviousCorpus, records: Sequence[Record]) -> list[Record]:
    """Of the packed parts those that are not old ones which had been removed from the store."""
    names = {part.name for part in previous.state.parts}
    return [r["part"] for r in records if r["part"] and r["part"]["name"] not in names]
