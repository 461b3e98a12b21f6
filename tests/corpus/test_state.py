"""From one state of a corpus to the next: parts keep their place, and what is gone is dead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from tests.corpus.shelf import SETTINGS, grown, ingest, ingest_here, listing_of, picture, shelf


def test_training_images_are_counted_by_class(tmp_path: Path) -> None:
    tags = {"t1": (), "t2": ("cat", "dog"), "val0": ("cow",)}
    settings = SETTINGS.model_copy(update={"classes": ("cat", "dog", "cow")})
    snapshot = ingest(Store(tmp_path), replace(shelf(), tags=tags), settings)
    assert snapshot.counts == {"cat": 9, "dog": 1, "cow": 0}
    assert snapshot.unseen == ("cow",) and not snapshot.is_untagged
    bare = replace(shelf(), tags={f"t{i}": () for i in range(10)})
    snapshot = ingest(Store(tmp_path), bare, settings)
    assert snapshot.unseen == ("cat", "dog", "cow") and snapshot.is_untagged


def test_old_parts_keep_their_place_and_new_images_make_one(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    done = ingest_here(listing_of(store, grown(source, "new1", "new2")))
    assert done.snapshot.parts[: len(first.parts)] == first.parts
    (new,) = done.snapshot.parts[len(first.parts) :]
    assert (new.rows, new.split, done.new, done.gone) == (2, "train", 2, 0)
    assert (first.added, done.snapshot.added) == (10, 12)
    assert first.lineage == done.snapshot.lineage


def test_an_image_that_is_gone_or_replaced_leaves_a_dead_row(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    images = {name: data for name, data in source.images.items() if name != "t3"}
    changed = replace(source, images=images | {"t5": picture(99)}, times={"t5": 2}, reads=0)
    done = ingest_here(listing_of(store, changed))
    assert changed.reads == 1 and (done.new, done.gone) == (1, 2)
    assert [part.name for part in done.snapshot.parts[:-1]] == [part.name for part in first.parts]
    assert sum(len(part.dead) for part in done.snapshot.parts) == 2
    assert done.snapshot.rows(["train"]) == 9
    assert first.learned_from(["train"]) != done.snapshot.learned_from(["train"])


def test_a_removed_part_of_a_grown_corpus_is_read_again_into_its_place(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(train=12)
    ingest(store, source)
    source = grown(source, "new1")
    second = ingest(store, source)
    store.remove(part_file(CORPUS_DIRECTORY, second.parts[1].name))
    assert listing_of(store, source).known() is None
    source.reads = 0
    assert ingest(store, source) == second
    assert source.reads == 4
