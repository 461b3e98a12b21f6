"""Damage to a part of any table is told, with its name, by the next reader and ``dcsp verify``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcsp.corpus.catalogue import CATALOGUE
from dcsp.errors import StoreError
from dcsp.inspection.verify import verify_store
from dcsp.inspection.verify_outputs import schemas
from dcsp.selftags.table import thresholds_file
from dcsp.stages.parts import begin_stage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, LATEST, catalogue_file, part_file, rejected_file
from dcsp.tables.schemas import REJECTED, RULES_SINCE
from dcsp.tables.snapshot import CorpusPart, Snapshot

SCHEMAS = schemas()
"""Of every table, those that single cue methods make included."""
ROWS = 240
PART = "aa11"
KEYS = {
    name: StageKey(name, RULES_SINCE)
    for name in sorted(SCHEMAS.keys() - {"corpus", "truth", "rejected"})
}
FILES = {
    "corpus": part_file(CORPUS_DIRECTORY, PART),
    "truth": part_file("truth", PART),
    "rejected": rejected_file(LATEST),
    **{name: part_file(key.directory, PART) for name, key in KEYS.items()},
}
FLIPS = 50
"""Places at which one bit is turned, over the whole file."""


def test_every_kind_of_table_is_looked_at() -> None:
    assert set(FILES) == set(SCHEMAS) >= {"saliency", "foreground", "superpixels", "selfcues"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one part of every table."""
    made = Store(tmp_path / "store")
    for name, schema in SCHEMAS.items():
        made.write_table(FILES[name], sample(schema))
    for key in KEYS.values():
        begin_stage(made, key)
    made.write_json(thresholds_file(KEYS["selftags"]), {})
    part = CorpusPart(PART, "train", ROWS, FILES["truth"])
    snapshot = Snapshot(("cat", "dog"), (part,), counts={"cat": ROWS})
    snapshot.save(made)
    made.write_table(rejected_file(snapshot.fingerprint), REJECTED.empty_table())
    catalogue = sample(CATALOGUE).to_pydict() | {"part": [0] * ROWS, "row": range(ROWS)}
    made.write_table(catalogue_file(snapshot.fingerprint), pa.table(catalogue, schema=CATALOGUE))
    assert verify_store(made).problems == []
    return made


def sample(schema: pa.Schema) -> pa.Table:
    """Rows of any schema that do not compress well."""
    random = np.random.default_rng(len(schema))
    columns: dict[str, Any] = {
        field.name: [value(field.type, random) for _ in range(ROWS)] for field in schema
    }
    columns["image_id"] = [f"image-{row}" for row in range(ROWS)]
    if "status" in columns:
        columns["status"] = ["ok"] * ROWS
    if "sha256" in columns:
        columns["sha256"] = [hashlib.sha256(data).hexdigest() for data in columns["bytes"]]
    return pa.table(columns, schema=schema)


def value(kind: pa.DataType, random: np.random.Generator) -> Any:
    """Any value of a type."""
    if pa.types.is_struct(kind):
        return {field.name: value(field.type, random) for field in kind}
    if pa.types.is_list(kind):
        return [value(kind.value_type, random) for _ in range(2)]
    if pa.types.is_integer(kind):
        return int(random.integers(1, 256 if kind.bit_width == 8 else 1000))
    if pa.types.is_floating(kind):
        return float(random.integers(0, 8)) / 8
    return random.bytes(12).hex() if pa.types.is_string(kind) else random.bytes(100)


def told(store: Store, name: str) -> str:
    """What the next reader says of a damaged part, and ``dcsp verify`` as well."""
    with pytest.raises(StoreError) as caught:
        store.read_table(name)
    said = str(caught.value)
    assert f"{store.path(name)} is torn or no Parquet file (" in said
    assert said.endswith("): remove it and submit the job again.") and "\n" not in said
    return said


@pytest.mark.parametrize("table", FILES)
def test_a_part_torn_at_any_tenth_of_its_bytes_is_told(store: Store, table: str) -> None:
    name = FILES[table]
    whole = store.read_bytes(name)
    for tenth in range(10):
        store.write_bytes(name, whole[: len(whole) * tenth // 10])
        assert told(store, name) in verify_store(store).problems, tenth
    store.write_bytes(name, whole[:-1])
    assert told(store, name) in verify_store(store).problems
    store.write_bytes(name, whole)
    assert verify_store(store).problems == []


@pytest.mark.parametrize("table", FILES)
def test_a_bit_that_turned_anywhere_is_told_or_changes_no_value(store: Store, table: str) -> None:
    name, columns = FILES[table], SCHEMAS[table].names
    whole, good = store.read_bytes(name), store.read_table(name).to_pylist()
    random = np.random.default_rng(1)
    unseen = []
    for position in sorted(random.choice(len(whole), FLIPS, replace=False)):
        bent = bytearray(whole)
        bent[position] ^= 1 << int(random.integers(8))
        store.write_bytes(name, bytes(bent))
        try:
            assert store.read_table(name, columns).to_pylist() == good, position
        except StoreError:
            assert told(store, name) in verify_store(store).problems
        else:
            unseen.append(int(position))
    # No checksum is over the format's first mark, the checksum's own name and the headers of pages,
    # some of whose bits no reader asks for.
    assert len(unseen) <= FLIPS // 50, unseen


def test_a_table_of_another_writer_needs_no_seal(tmp_path: Path) -> None:
    table = sample(SCHEMAS["cues"])
    pq.write_table(table, tmp_path / "part.parquet")
    assert Store(tmp_path).read_table("part.parquet").equals(table)


def test_a_seal_shows_in_no_table_and_keeps_what_a_table_says_of_itself(tmp_path: Path) -> None:
    store, table = Store(tmp_path), sample(SCHEMAS["truth"])
    store.write_table("plain.parquet", table)
    assert store.read_table("plain.parquet").schema.metadata is None
    store.write_table("told.parquet", table.replace_schema_metadata({"origin": "here"}))
    assert store.read_table("told.parquet").schema.metadata == {b"origin": b"here"}
    assert pq.read_table(tmp_path / "plain.parquet").equals(table)
