"""Tags that mean no class, and classes that too few images show: counted, kept and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from dcsp.corpus.sources.base import SourceRow, printable
from dcsp.labels import TagMapper
from dcsp.store.store import Store
from dcsp.tables.layout import unknown_file
from dcsp.tables.snapshot import Snapshot
from dcsp.text import without_credentials

KEPT = 1000
"""The commonest unknown tags, which the store keeps."""
TOLD = 5
_LONGEST = 100
"""Characters of a tag that are kept: captions are no tags."""


def count_unknown(rows: Iterable[SourceRow], mapper: TagMapper) -> Counter[str]:
    """Images with each tag that means no class."""
    return Counter(
        tag for row in rows for tag in {_short(tag) for tag in mapper.map_tags(row.tags)[1]}
    )


def save_unknown(store: Store, fingerprint: str, images: Counter[str]) -> None:
    """Write them down for a snapshot; nothing is there where there are none.

    Args:
        store: Where the snapshot is.
        fingerprint: Of the snapshot.
        images: Images with each unknown tag.
    """
    file = unknown_file(fingerprint)
    if not images:
        store.remove(file)
        return
    common = sorted(images.items(), key=lambda item: (-item[1], item[0]))
    content = {"uses": images.total(), "distinct": len(images), "images": dict(common[:KEPT])}
    store.write_json(file, content)


def read_unknown(store: Store, fingerprint: str) -> dict[str, Any]:
    """Unknown tags of a snapshot, the commonest first in ``images``; empty where there are none."""
    file = unknown_file(fingerprint)
    found: dict[str, Any] = store.read_json(file) if store.exists(file) else {}
    return found


def tag_notes(store: Store, snapshot: Snapshot, least: int) -> list[str]:
    """What whoever watches an ingest should know of the tags, one sentence each.

    Args:
        store: Where the snapshot is.
        snapshot: What the source became.
        least: ``corpus.min_tag_support``.
    """
    notes = []
    unseen = snapshot.unseen if least else ()
    if unseen:
        notes.append(f"no training image has a tag of these classes: {', '.join(unseen)}")
    scarce = [
        f"{name} ({snapshot.counts[name]})"
        for name in snapshot.classes
        if 0 < snapshot.counts.get(name, 0) < least
    ]
    if scarce:
        notes.append(
            f"fewer than corpus.min_tag_support={least} training images have a tag of "
            f"{', '.join(scarce)}: add images, map more tags to them (corpus.synonyms), or drop "
            "them from corpus.classes"
        )
    if unknown := read_unknown(store, snapshot.fingerprint):
        common = [f"{tag!r} ({images})" for tag, images in unknown["images"].items()][:TOLD]
        notes.append(
            f"{unknown['distinct']} different tags mean no class, {unknown['uses']} times in all; "
            f"the commonest, with their images: {', '.join(common)}; pixels of what they name may "
            "become one of your classes: name it in corpus.distractors, or map it to a class "
            "(corpus.synonyms); `dcsp rejected` lists more"
        )
    return notes


def _short(tag: str) -> str:
    told = without_credentials(tag)
    return printable(told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…")
