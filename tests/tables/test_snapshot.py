"""A snapshot's fingerprint tells what a corpus holds; training sees its images and tags alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dcsp.errors import StoreError
from dcsp.store.store import Store
from dcsp.tables.layout import snapshot_file
from dcsp.tables.snapshot import CorpusPart, Masks, Part, Snapshot

PARTS = (
    CorpusPart("aa", "train", 3, "truth/aa-1.parquet", dead=(1,)),
    CorpusPart("bb", "train", 2),
    CorpusPart("cc", "val", 4, "truth/cc-1.parquet"),
)
SNAPSHOT = Snapshot(
    ("cat", "dog"),
    PARTS,
    rejected=2,
    counts={"cat": 5},
    lineage="l",
    added=6,
    masks=Masks(9, (1,), 2, "told"),
)
LEARNED = SNAPSHOT.learned_from(["train"])


def with_part(index: int, **change: Any) -> Snapshot:
    parts = list(PARTS)
    parts[index] = replace(parts[index], **change)
    return replace(SNAPSHOT, parts=tuple(parts))


GROWN = replace(SNAPSHOT, parts=(*PARTS, CorpusPart("dd", "train", 3)))
CHANGES = {
    "a grown corpus": (GROWN, True),
    "another part": (with_part(0, name="ee"), True),
    "another order": (replace(SNAPSHOT, parts=PARTS[::-1]), True),
    "another class order": (replace(SNAPSHOT, classes=("dog", "cat")), True),
    "a removed image": (with_part(1, dead=(0,)), True),
    "a removed image of val": (with_part(2, dead=(0,)), False),
    "a part that moved to val": (with_part(1, split="val"), True),
    "another part of val": (with_part(2, name="ee"), False),
    "other masks": (with_part(0, truth="truth/aa-2.parquet"), False),
    "no masks": (with_part(0, truth=None), False),
}


@pytest.mark.parametrize(("changed", "learned"), CHANGES.values(), ids=CHANGES)
def test_what_a_changed_corpus_changes(changed: Snapshot, learned: bool) -> None:
    assert changed.fingerprint != SNAPSHOT.fingerprint
    assert (changed.learned_from(["train"]) != LEARNED) == learned


def test_counts_and_rejections_are_told_and_decide_nothing() -> None:
    told = replace(SNAPSHOT, rejected=9, counts={"cat": 1}, lineage="m", added=9)
    assert told.fingerprint == SNAPSHOT.fingerprint


def test_parts_of_a_split_are_in_order() -> None:
    first = Part("aa", 3, dead=(1,))
    assert SNAPSHOT.of(["train"]) == [first, Part("bb", 2)]
    assert SNAPSHOT.of(["val", "train"]) == [first, Part("bb", 2), Part("cc", 4)]
    assert SNAPSHOT.of([]) == []


def test_dead_rows_are_no_images() -> None:
    assert (SNAPSHOT.rows(["train"]), SNAPSHOT.rows(["val"])) == (4, 4)
    assert [part.live for part in SNAPSHOT.parts] == [2, 2, 4]


def test_a_grown_corpus_shares_its_old_parts() -> None:
    assert GROWN.of(["train", "val"])[:3] == SNAPSHOT.of(["train", "val"])


def test_a_snapshot_survives_the_store(store: Store) -> None:
    SNAPSHOT.save(store)
    assert Snapshot.load(store, SNAPSHOT.fingerprint) == SNAPSHOT
    assert Snapshot.load(store, SNAPSHOT.fingerprint).fingerprint == SNAPSHOT.fingerprint


def test_an_unknown_snapshot_is_told(store: Store) -> None:
    with pytest.raises(StoreError, match=r"has no corpus/ff\.json"):
        Snapshot.load(store, "ff")


@pytest.mark.parametrize(
    "change",
    [{"version": 99}, {"parts": None}, {"parts": [{"nmae": "aa"}]}, {"classes": 3}],
    ids=str,
)
def test_a_snapshot_of_another_version_is_told(tmp_path: Any, change: dict[str, Any]) -> None:
    store = Store(tmp_path)
    SNAPSHOT.save(store)
    file = snapshot_file(SNAPSHOT.fingerprint)
    store.write_json(file, store.read_json(file) | change)
    with pytest.raises(StoreError, match=r"no snapshot that this version of dcsp reads"):
        Snapshot.load(store, SNAPSHOT.fingerprint)
    store.write_bytes(file, json.dumps([1]).encode())
    with pytest.raises(StoreError, match=r"no snapshot that this version of dcsp reads"):
        Snapshot.load(store, SNAPSHOT.fingerprint)
