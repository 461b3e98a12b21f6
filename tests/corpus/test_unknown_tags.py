"""Tags without a class and classes without images are counted, kept and told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dcsp.corpus import unknown_tags as unknown
from dcsp.corpus.sources.base import SourceRow
from dcsp.corpus.unknown_tags import count_unknown, read_unknown, save_unknown, tag_notes
from dcsp.labels import TagMapper
from dcsp.store.store import Store
from dcsp.tables.snapshot import CorpusPart, Snapshot

MAPPER = TagMapper(("cat", "dog"))


def row(*tags: str) -> SourceRow:
    return SourceRow("a", "a.jpg", "train", tags, None, "")


def snapshot(**counts: int) -> Snapshot:
    return Snapshot(("cat", "dog", "cow"), (CorpusPart("p", "train", 9),), counts=counts)


def test_images_are_counted_once_for_each_unknown_tag() -> None:
    rows = [row("cat", "axe"), row("axe", "axe", "Axe"), row(), row("x" * 500)]
    assert count_unknown(rows, MAPPER) == {"axe": 2, "Axe": 1, "x" * 100 + "…": 1}


def test_the_commonest_are_kept_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "KEPT", 2)
    store = Store(tmp_path)
    save_unknown(store, "f", Counter({"axe": 2, "bow": 5, "cup": 1}))
    found = read_unknown(store, "f")
    assert found == {"uses": 8, "distinct": 3, "images": {"bow": 5, "axe": 2}}
    assert [*found["images"]] == ["bow", "axe"]


def test_where_there_are_none_any_more_nothing_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save_unknown(store, "f", Counter({"axe": 1}))
    save_unknown(store, "f", Counter())
    save_unknown(store, "g", Counter())
    assert read_unknown(store, "f") == read_unknown(store, "g") == {}


def test_scarce_classes_are_told_by_name_with_what_to_do(tmp_path: Path) -> None:
    found = snapshot(cat=12, dog=3, cow=0)
    (unseen,) = tag_notes(Store(tmp_path), found, 1)
    assert unseen == "no training image has a tag of these classes: cow"
    first, second = tag_notes(Store(tmp_path), found, 12)
    assert first == unseen
    assert second.startswith(
        "fewer than corpus.min_tag_support=12 training images have a tag of dog (3): add images"
    )
    assert tag_notes(Store(tmp_path), found, 0) == []


def test_unknown_tags_are_told_with_the_commonest_first(tmp_path: Path) -> None:
    store, found = Store(tmp_path), snapshot(cat=1, dog=1, cow=1)
    save_unknown(store, found.fingerprint, Counter({"a\nb": 1, "axe": 20}))
    (note,) = tag_notes(store, found, 1)
    assert note.startswith("2 different tags mean no class, 21 times in all; the commonest")
    assert "pixels of what they name may become one of your classes" in note
    assert "'axe' (20), 'a\\nb' (1)" in note and "\n" not in note
