"""What did not change is not read, and what turns out the same stays where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dcsp.store.store import Store
from tests.corpus.shelf import grown, ingest, ingest_here, listing_of, picture, shelf


def test_a_file_that_was_only_touched_stays_where_it_is(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf()
    first = ingest(store, source)
    touched = replace(source, times=dict.fromkeys(source.images, 7), reads=0)
    done = ingest_here(listing_of(store, touched))
    assert touched.reads == 13 and (done.new, done.gone) == (0, 0)
    assert done.snapshot == first


def test_an_image_that_was_rejected_is_looked_at_when_it_changes(tmp_path: Path) -> None:
    store, source = Store(tmp_path), shelf(bad=1)
    assert ingest(store, source).rejected == 1
    same = grown(source, "new1")
    second = ingest(store, same)
    assert (second.rejected, same.reads) == (1, 1)
    mended = replace(same, images=same.images | {"t0": picture(0)}, times={"t0": 1}, reads=0)
    assert ingest(store, mended).rejected == 0
    assert mended.reads == 1
