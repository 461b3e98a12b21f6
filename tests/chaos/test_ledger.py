"""The ledger tells every way in which a table can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcsp.store.store import Store
from tests.chaos.ledger import Ledger, of_files, of_metrics, of_table, of_training
from tests.chaos.matrix import cases

Rows = dict[str, list[tuple[str, int]]]
GOOD: Rows = {"a": [("1", 10), ("2", 20)], "b": [("3", 30), ("4", 40)]}


def write(folder: Path, tables: Rows) -> Path:
    folder.mkdir()
    for name, rows in tables.items():
        ids, values = zip(*rows, strict=True)
        pq.write_table(pa.table({"image_id": ids, "value": values}), folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (GOOD, Ledger(4, ok=4)),
        ({"a": GOOD["a"]}, Ledger(4, ok=2, lost=2)),
        ({**GOOD, "b": [("3", 30)]}, Ledger(4, ok=3, lost=1)),
        ({**GOOD, "c": [("4", 40)]}, Ledger(4, ok=3, duplicated=1)),
        ({**GOOD, "b": [("3", 31), ("4", 40)]}, Ledger(4, ok=3, mixed=1)),
        ({**GOOD, "b": [*GOOD["b"], ("5", 50)]}, Ledger(4, ok=4, mixed=1)),
        ({"a": GOOD["b"], "b": GOOD["a"]}, Ledger(4, mixed=4)),
    ],
    ids=["whole", "no part", "no row", "twice", "other value", "a stranger", "other part"],
)
def test_rows_are_counted_as_what_they_are(tmp_path: Path, found: Rows, expected: Ledger) -> None:
    ledger = of_table(write(tmp_path / "good", GOOD), write(tmp_path / "found", found))
    assert ledger == expected
    assert ledger.clean == (found == GOOD)


def test_a_part_that_nobody_can_read_has_lost_its_rows(tmp_path: Path) -> None:
    good, found = write(tmp_path / "good", GOOD), write(tmp_path / "found", GOOD)
    (found / "a.parquet").write_bytes(b"PAR1")
    assert of_table(good, found) == Ledger(4, ok=2, lost=2)


def forget(history: list[dict[str, float]]) -> None:
    history.pop()


def repeat(history: list[dict[str, float]]) -> None:
    history.append(history[-1])


def change(history: list[dict[str, float]]) -> None:
    history[0]["loss"] += 1


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda history: None, Ledger(4, ok=4)),
        (forget, Ledger(4, ok=3, lost=1)),
        (repeat, Ledger(4, ok=3, duplicated=1)),
        (change, Ledger(4, ok=3, mixed=1)),
    ],
    ids=["whole", "lost step", "step twice", "other loss"],
)
def test_steps_are_counted_as_rows(
    tmp_path: Path, edit: Callable[[list[dict[str, float]]], None], expected: Ledger
) -> None:
    history = [{"step": step, "loss": step / 10} for step in (1.0, 2.0, 3.0)]
    for name in ("good", "found"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "history.json").write_text(json.dumps(history))
        edit(history)
    assert of_training(tmp_path / "good", tmp_path / "found") == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"val": {"miou": 0.5}, "rows": {"ok": 3}}, Ledger(2, ok=2)),
        ({"val": {"miou": 0.4}, "rows": {"ok": 3}}, Ledger(2, ok=1, mixed=1)),
        ({"val": {}, "rows": {"ok": 3}}, Ledger(2, ok=1, lost=1)),
        (None, Ledger(2, lost=2)),
    ],
    ids=["the same", "another figure", "a figure less", "no metrics"],
)
def test_figures_are_counted_as_rows_and_seconds_are_not(
    tmp_path: Path, found: dict[str, Any] | None, expected: Ledger
) -> None:
    good = {"val": {"miou": 0.5}, "rows": {"ok": 3}}
    for name, figures, seconds in (("good", good, 1.0), ("found", found, 2.0)):
        if figures is not None:
            told = {**figures, "seconds": {"ingest": seconds}}
            Store(tmp_path).write_json(f"{name}/metrics.json", told)
    assert of_metrics(tmp_path / "good", tmp_path / "found") == expected


def test_files_are_compared_but_for_the_path_of_their_store(tmp_path: Path) -> None:
    for name in ("good", "found"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a/page").write_text(f"the store {tmp_path / name}")
        (tmp_path / name / "b").write_text("b")
    (tmp_path / "found/.tmp-1").write_text("half")
    assert of_files(tmp_path / "good", tmp_path / "found") == Ledger(2, ok=2)
    (tmp_path / "found/b").unlink()
    (tmp_path / "found/c").write_text("c")
    assert of_files(tmp_path / "good", tmp_path / "found") == Ledger(2, ok=1, lost=1, mixed=1)


def test_commands_have_no_workers_and_no_nodes() -> None:
    found = cases(["saliency", "gc"], ["driver", "sigterm", "worker", "node"], 1)
    assert [(case.stage, case.victim) for case in found] == [
        *(("saliency", victim) for victim in ("driver", "sigterm", "worker", "node")),
        *(("gc", victim) for victim in ("driver", "sigterm")),
    ]


def test_nothing_is_never_clean() -> None:
    assert not Ledger().clean
