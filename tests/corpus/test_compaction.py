"""Small parts are joined, and nothing is computed again."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dcsp.corpus.compaction import small_groups
from dcsp.store.store import Store
from dcsp.tables.snapshot import CorpusPart
from tests.corpus.shelf import grown, ingest, live, mine, picture, shelf


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=20))
def test_what_is_joined_is_of_one_split_and_not_small_again(
    listed: list[tuple[int, bool]],
) -> None:
    parts = [CorpusPart("p", "val" if is_val else "train", rows) for rows, is_val in listed]
    groups = list(small_groups(parts, 8))
    indices = [index for group in groups for index in group]
    assert len(set(indices)) == len(indices)
    for group in groups:
        assert len(group) > 1 and len({parts[index].split for index in group}) == 1
        assert all(parts[index].rows <= 4 for index in group)
        assert 4 < sum(parts[index].rows for index in group) <= 8


def test_small_parts_are_joined_with_their_tables(tmp_path: Path) -> None:
    """Four nights of one image each: no row of the first ones is computed a second time."""
    store, source = Store(tmp_path), shelf(train=8, val=4)
    sizes, computed = [], []
    for night in range(5):
        snapshot = ingest(store, source)
        computed.append(mine(store, snapshot))
        sizes.append([part.rows for part in snapshot.parts if part.split == "train"])
        source = grown(source, *[name for name in source.images if name.startswith("new")])
        source.images[f"new{night}"] = picture(200 + night)
    assert sizes == [[4, 4], [4, 4, 1], [4, 4, 1, 1], [4, 4, 1, 1, 1], [4, 4, 3, 1]]
    assert computed == [12, 1, 1, 1, 1]
    assert sorted(live(store, snapshot))[0][0] == "new0"
