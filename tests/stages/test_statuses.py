"""What is remembered of parts saves reading them, and never changes what is counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsp.errors import StoreError
from dcsp.stages.statuses import Counted, count_parts, remember, remembered
from dcsp.store.store import Store
from dcsp.tables.layout import STATUSES_FILE

TABLE = "cues/ab"
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
COUNTS = st.builds(Counted, *[st.integers(0, 2**40)] * 4)


class CountingStore(Store):
    """A store that remembers which tables were read."""

    def __init__(self, url: str | Path) -> None:
        super().__init__(url)
        self.read: list[str] = []

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        self.read.append(name)
        return super().read_table(name, columns)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


def write(store: Store, part: str, *statuses: str) -> int:
    """A part with rows of these statuses; returns its bytes."""
    return store.write_table(f"{TABLE}/{part}.parquet", pa.table({"status": list(statuses)}))


@settings(max_examples=25)
@given(st.dictionaries(NAMES, COUNTS), st.dictionaries(NAMES, COUNTS))
def test_what_is_noted_is_remembered(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[str, Counted],
    second: dict[str, Counted],
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    remember(store, TABLE, first)
    remember(store, TABLE, second)
    assert remembered(store, TABLE) == first | second


def test_parts_are_read_once_and_remembered(store: CountingStore) -> None:
    sizes = {f"p{n}": write(store, f"p{n}", *["ok"] * n, "error") for n in range(40)}
    counted = count_parts(store, TABLE, sizes, {})
    assert counted == {f"p{n}": Counted(sizes[f"p{n}"], n, 0, 1) for n in range(40)}
    assert len(store.read) == 40
    assert count_parts(store, TABLE, sizes, {}) == counted
    assert len(store.read) == 40


def test_parts_that_were_just_made_are_not_read(store: CountingStore) -> None:
    known = {f"p{n}": Counted(9, n, 1, 2) for n in range(3)}
    assert count_parts(store, TABLE, {part: 9 for part in known}, known) == known
    assert not store.read
    assert remembered(store, TABLE) == known


def test_a_part_of_another_size_is_counted_anew(store: CountingStore) -> None:
    remember(store, TABLE, {"p": Counted(1, 1, 0, 0), "gone": Counted(1, 1, 0, 0)})
    size = write(store, "p", "ok", "skipped", "skipped")
    assert count_parts(store, TABLE, {"p": size}, {}) == {"p": Counted(size, 1, 2, 0)}
    assert len(store.read) == 1


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"p": 3}', '{"p": [1, 2]}', '{"p": "abcd"}'])
def test_a_damaged_note_is_as_good_as_none(store: CountingStore, text: str) -> None:
    store.write_bytes(f"{TABLE}/{STATUSES_FILE}", text.encode())
    size = write(store, "p", "ok")
    assert count_parts(store, TABLE, {"p": size}, {})["p"].ok == 1
    assert json.loads(store.read_bytes(f"{TABLE}/{STATUSES_FILE}")) == {"p": [size, 1, 0, 0]}


def test_an_unknown_status_is_told(store: CountingStore) -> None:
    size = write(store, "p", "ok", "fine")
    with pytest.raises(StoreError, match=r"p\.parquet has rows of the status 'fine': remove it"):
        count_parts(store, TABLE, {"p": size}, {})


def test_one_bad_part_ends_the_count_without_reading_all_others(store: CountingStore) -> None:
    sizes = {"p": write(store, "p", "fine")}
    sizes |= {f"q{n}": 1 for n in range(2000)}
    with pytest.raises(StoreError, match="rows of the status 'fine'"):
        count_parts(store, TABLE, sizes, {})
    assert len(store.read) < 1000
