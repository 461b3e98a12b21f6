"""Parts of derived tables: aligned with the corpus, done once, resumed after a kill, counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dcsp.errors import StoreError
from dcsp.stages.parts import (
    PartsMade,
    TableInput,
    begin_stage,
    complete_table,
    read_part,
    scope,
)
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, manifest_file, part_file
from dcsp.tables.snapshot import Part
from tests.stages.stages import (
    PARTS,
    SCHEMA,
    SIZES,
    Doubling,
    image_ids,
    run_here,
    write_corpus,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary.txt"


def entries(diary: Path) -> list[str]:
    return diary.read_text().split() if diary.exists() else []


def run_elsewhere(store: Store, stage: Doubling) -> int:
    """Run the stage in a process of its own; its exit code."""
    code = (
        "import sys\n"
        "from dcsp.store.store import Store\n"
        "from tests.stages.stages import PARTS, Doubling, run_here\n"
        "run_here(Store(sys.argv[1]), Doubling(sys.argv[2], stop_at=sys.argv[3]), PARTS)\n"
    )
    command = [sys.executable, "-c", code, store.url, stage.diary, stage.stop_at]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def test_every_corpus_row_has_one_row_with_a_status(store: Store, diary: Path) -> None:
    write_corpus(store)
    stage = Doubling(str(diary))
    summaries = run_here(store, stage, PARTS)
    assert [(summary.part, summary.rows) for summary in summaries] == list(SIZES.items())
    for part in PARTS:
        table = store.read_table(part_file(stage.key.directory, part.name))
        assert table.schema.equals(SCHEMA)
        assert table["image_id"].to_pylist() == image_ids(part.name)
    table = store.read_table(part_file(stage.key.directory, "p2"))
    assert table["value"].to_pylist() == [8, None, None, 8]
    assert table["status"].to_pylist() == ["ok", "error", "skipped", "ok"]
    assert store.read_json(f"{stage.key.directory}/stage.json") == stage.key.as_dict()
    assert store.sizes(stage.key.directory)["p2.parquet"] == summaries[2].bytes
    assert summaries[2].statuses == {"ok": 2, "error": 1, "skipped": 1}


def test_what_is_done_is_not_done_again(store: Store, diary: Path) -> None:
    write_corpus(store)
    stage = Doubling(str(diary))
    run_here(store, stage, PARTS)
    seen = entries(diary)
    assert run_here(store, stage, PARTS) == []
    assert entries(diary) == seen  # not even the model was loaded


def test_a_killed_stage_goes_on_where_it_was(tmp_path: Path, diary: Path) -> None:
    store = Store(tmp_path / "store")
    write_corpus(store)
    assert run_elsewhere(store, Doubling(str(diary), stop_at="p2")) == 137
    stage = Doubling(str(diary))
    assert store.parts(stage.key.directory) == {"p0", "p1"}
    assert stage.pending(store, PARTS) == [Part("p2", 4), Part("p3", 2)]
    first = store.read_bytes(part_file(stage.key.directory, "p0"))
    diary.unlink()
    summaries = run_here(store, stage, PARTS)
    assert entries(diary) == ["load", "p2", "p3"]
    assert [summary.part for summary in summaries] == ["p2", "p3"]
    assert store.read_bytes(part_file(stage.key.directory, "p0")) == first
    manifest = complete_table(store, stage.key, PARTS, PartsMade(summaries), 1.25)
    assert manifest["rows"] == {"ok": 5, "skipped": 2, "error": 3}


def test_parts_do_not_depend_on_who_made_them(tmp_path: Path, diary: Path) -> None:
    stores = [Store(tmp_path / name) for name in ("whole", "resumed")]
    stage = Doubling(str(diary))
    for store in stores:
        write_corpus(store)
    run_here(stores[0], stage, PARTS)
    run_elsewhere(stores[1], Doubling(str(diary), stop_at="p1"))
    run_here(stores[1], stage, PARTS[::-1])
    for part in PARTS:
        name = part_file(stage.key.directory, part.name)
        assert stores[0].read_bytes(name) == stores[1].read_bytes(name)


def test_another_version_has_a_table_of_its_own(store: Store, diary: Path) -> None:
    write_corpus(store)
    run_here(store, Doubling(str(diary)), PARTS[:1])
    run_here(store, Doubling(str(diary), version=2), PARTS[:1])
    assert len(store.list("doubles")) == 2


# --- zipping --------------------------------------------------------------------------------------


def inputs(*columns: str) -> tuple[TableInput, ...]:
    return (
        TableInput("", CORPUS_DIRECTORY, ("image_id", "height")),
        TableInput("other", "other/ab", columns),
    )


def write_other(store: Store, image_ids: Sequence[str]) -> None:
    table = pa.table({"image_id": list(image_ids), "value": list(range(len(image_ids)))})
    store.write_table("other/ab/p0.parquet", table)


def test_aligned_parts_are_zipped_by_position(store: Store) -> None:
    write_corpus(store)
    write_other(store, image_ids("p0"))
    rows = read_part(store, inputs("value"), "p0")
    assert rows.to_pylist() == [
        {"image_id": image_id, "height": 7, "other.value": number}
        for number, image_id in enumerate(image_ids("p0"))
    ]
    assert inputs("value")[1].column("value") == "other.value"
    assert inputs("value")[0].column("height") == "height"


@pytest.mark.parametrize(
    "misaligned",
    [image_ids("p0")[::-1], image_ids("p0")[:2], [*image_ids("p0"), "p0-new"], image_ids("p2")[:3]],
    ids=["another order", "a row too few", "a row too many", "other rows"],
)
def test_misaligned_parts_are_refused(tmp_path: Path, misaligned: list[str]) -> None:
    store = Store(tmp_path)
    write_corpus(store)
    write_other(store, misaligned)
    with pytest.raises(StoreError, match=r"other/ab/p0\.parquet does not hold the rows"):
        read_part(store, inputs("value"), "p0")


def test_a_missing_part_or_column_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_corpus(store)
    with pytest.raises(StoreError, match=r"has no other/ab/p0\.parquet"):
        read_part(store, inputs("value"), "p0")
    write_other(store, image_ids("p0"))
    with pytest.raises(StoreError, match=r"p0\.parquet has no column label"):
        read_part(store, inputs("label"), "p0")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_table_of_one_split_gives_nulls_for_others_and_must_be_there_for_its_own(
    tmp_path: Path, split: str
) -> None:
    store, ids = Store(tmp_path), image_ids("p0")
    corpus = pa.table({"image_id": ids, "split": [split] * len(ids)})
    store.write_table(part_file(CORPUS_DIRECTORY, "p0"), corpus)
    asked = (
        TableInput("", CORPUS_DIRECTORY, ("image_id", "split")),
        TableInput("other", "other/ab", ("value",), splits=("train",)),
    )
    if split == "train":
        with pytest.raises(StoreError, match=r"has no other/ab/p0\.parquet"):
            read_part(store, asked, "p0")
        write_other(store, ids)
    values = read_part(store, asked, "p0")["other.value"].to_pylist()
    assert values == (list(range(len(ids))) if split == "train" else [None] * len(ids))


# --- writing and completing -----------------------------------------------------------------------


def rows_of(*statuses: str | None) -> pa.Table:
    count = len(statuses)
    return pa.table(
        {
            "status": pa.array(statuses, pa.string()),
            "image_id": [f"p0-{number}" for number in range(count)],
            "value": list(range(count)),
            "error": pa.nulls(count, pa.string()),
            "surplus": [0] * count,
        }
    )


@pytest.mark.parametrize("count", [0, 2, 4])
def test_lost_and_surplus_rows_are_never_written(tmp_path: Path, diary: Path, count: int) -> None:
    store, stage = Store(tmp_path), Doubling(str(diary))
    with pytest.raises(
        RuntimeError,
        match=rf"{count} rows of the table doubles/\w+ were made of the 3 rows of part p0",
    ):
        stage.write(store, Part("p0", 3), rows_of(*["ok"] * count))
    assert store.parts(stage.key.directory) == set()


def test_a_stage_that_loses_rows_is_stopped(tmp_path: Path, diary: Path) -> None:
    store = Store(tmp_path)
    write_corpus(store)
    with pytest.raises(RuntimeError, match="fault of the stage; nothing was written"):
        run_here(store, Doubling(str(diary), lose=1), PARTS)


def test_rows_without_a_status_are_never_written(tmp_path: Path, diary: Path) -> None:
    store, stage = Store(tmp_path), Doubling(str(diary))
    with pytest.raises(ValueError, match="null"):
        stage.write(store, Part("p0", 2), rows_of("ok", None))
    assert store.parts(stage.key.directory) == set()


def test_a_manifest_counts_the_rows_of_all_parts(store: Store, diary: Path) -> None:
    write_corpus(store)
    stage = Doubling(str(diary))
    earlier = run_here(store, stage, PARTS[:2])
    later = run_here(store, stage, PARTS)
    assert len(earlier) == len(later) == 2
    manifest = complete_table(store, stage.key, PARTS, PartsMade(later), 1.23456)
    assert store.read_json(manifest_file(stage.key, scope(PARTS))) == manifest
    assert manifest["rows"] == {"ok": 5, "skipped": 2, "error": 3}
    assert sum(manifest["rows"].values()) == sum(SIZES.values())
    assert manifest["parts"] == 4 and manifest["seconds"] == 1.235
    assert manifest["bytes"] == sum(summary.bytes for summary in [*earlier, *later])
    assert (manifest["stage"], manifest["fingerprint"]) == ("doubles", stage.key.fingerprint)


def test_a_table_is_complete_for_the_parts_asked_for(tmp_path: Path, diary: Path) -> None:
    store, stage = Store(tmp_path), Doubling(str(diary))
    write_corpus(store)
    summaries = run_here(store, stage, PARTS[:3])
    assert complete_table(store, stage.key, PARTS[:3], PartsMade(summaries), 0)["parts"] == 3
    with pytest.raises(StoreError, match="lacks 1 of 4 parts"):
        complete_table(store, stage.key, PARTS, PartsMade(summaries), 0)
    assert store.exists(manifest_file(stage.key, scope(PARTS[:3])))
    assert not store.exists(manifest_file(stage.key, scope(PARTS)))


def test_parts_of_other_lengths_never_make_a_complete_table(tmp_path: Path, diary: Path) -> None:
    store, stage = Store(tmp_path), Doubling(str(diary))
    write_corpus(store)
    run_here(store, stage, PARTS)
    short = store.read_table(part_file(stage.key.directory, "p2")).slice(0, 3)
    store.write_table(part_file(stage.key.directory, "p2"), short)
    with pytest.raises(StoreError, match=r"p2\.parquet has 3 rows, its corpus part 4: remove it"):
        complete_table(store, stage.key, PARTS, PartsMade([]), 0)
    assert not store.exists(manifest_file(stage.key, scope(PARTS)))


def test_what_decides_a_table_is_written_before_its_first_part(tmp_path: Path, diary: Path) -> None:
    store, stage = Store(tmp_path), Doubling(str(diary))
    begin_stage(store, stage.key)
    store.write_bytes(f"{stage.key.directory}/stage.json", b'"as it was"')
    begin_stage(store, stage.key)
    assert store.read_json(f"{stage.key.directory}/stage.json") == "as it was"
