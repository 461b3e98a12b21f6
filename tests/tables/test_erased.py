"""Blank rows hold nothing and keep their place; the list of what was erased holds digests alone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dcsp.errors import StoreError
from dcsp.inspection.verify_outputs import schemas
from dcsp.store.store import Store
from dcsp.tables.erased import ERASED, ERASED_ID, Erased, blanked, is_blank, load_erased
from dcsp.tables.layout import ERASED_FILE

ROWS = [f"person-{number}" for number in range(4)]


def filled(schema: pa.Schema) -> pa.Table:
    """Four rows of which nothing is null."""

    def value(field: pa.Field, row: int) -> object:
        if pa.types.is_list(field.type):
            return [value(field.type.value_field, row)]
        if pa.types.is_struct(field.type):
            return {inner.name: value(inner, row) for inner in field.type}
        if pa.types.is_string(field.type):
            return ROWS[row]
        return b"x" if "binary" in str(field.type) else row + 1

    rows = [{f.name: value(f, row) for f in schema} for row in range(len(ROWS))]
    return pa.Table.from_pylist(rows, schema)


@pytest.mark.parametrize("name", sorted(set(schemas()) - {"rejected"}))
def test_a_blank_row_of_every_table_can_be_written_and_says_nothing(
    name: str, tmp_path: object
) -> None:
    table = filled(schemas()[name])
    store = Store(str(tmp_path))
    store.write_table("t.parquet", blanked(table, {0, 2}))
    found = store.read_table("t.parquet")
    assert found.schema.equals(table.schema)
    assert is_blank(found).tolist() == [True, False, True, False]
    assert found.take([1, 3]).equals(table.take([1, 3]))
    for row in (found.take([2]).to_pylist()[0], found.take([0]).to_pylist()[0]):
        assert (row["image_id"], row["status"], row["error"]) == (ERASED_ID, "skipped", ERASED)
        told = {"status", "error", "height", "width", "split", "sha256"}
        assert all(not value for name, value in row.items() if name not in told), row
    assert blanked(found, set()).equals(found)


def test_the_list_holds_no_id_and_is_read_back(store: Store) -> None:
    assert load_erased(store) == Erased()
    erased = Erased().with_more(["jane"], ["ab" * 32])
    erased.save(store)
    assert load_erased(store) == erased and erased.is_unfinished
    assert b"jane" not in store.read_bytes(ERASED_FILE)
    erased.finish(store)
    found = load_erased(store)
    assert not found.is_unfinished and found.has("jane") and not found.has("Jane")
    assert found.rows(["x", "jane"]).tolist() == [False, True]


def test_a_list_of_another_version_is_one_clear_error(store: Store) -> None:
    store.write_json(ERASED_FILE, {"ids": 3})
    with pytest.raises(StoreError, match="is no list of erased images"):
        load_erased(store)
    store.write_bytes(ERASED_FILE, b"{")
    with pytest.raises(StoreError, match=r"bring corpus/erased/list\.json back, or remove it and"):
        load_erased(store)
