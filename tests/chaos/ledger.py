"""Rows of a store against the rows of an undisturbed one, read without any code of ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Ledger:
    """Rows: of the undisturbed run; as they should be, not there, there again, or different."""

    expected: int = 0
    ok: int = 0
    lost: int = 0
    duplicated: int = 0
    mixed: int = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def clean(self) -> bool:
        """Whether every row is there once, as it should be."""
        return self.ok == self.expected > 0 and self.lost == self.duplicated == self.mixed == 0


def of_table(good: Path, found: Path) -> Ledger:
    """The parts of a table against those of an undisturbed run, row by row where bytes differ."""
    return _ledger(dict(_rows(good)), list(_rows(found)))


def of_training(good: Path, found: Path) -> Ledger:
    """The steps of a training, and the network's weights as one row more."""
    return _ledger(dict(_steps(good)), list(_steps(found)))


def of_metrics(good: Path, found: Path) -> Ledger:
    """The figures of a run's evaluation, but for seconds; what is not there is lost."""
    return _ledger(dict(_figures(good)), list(_figures(found)))


def of_files(good: Path, found: Path) -> Ledger:
    """Every file of a store but temporary ones; that its path stands in one does not count."""
    return _ledger(dict(_files(good)), list(_files(found)))


def _ledger(good: dict[str, Any], found: list[tuple[str, Any]]) -> Ledger:
    """Rows by their name against rows with names that may come again."""
    times = Counter(name for name, _ in found)
    right = {name for name, row in found if name in good and good[name] == row}
    return Ledger(
        expected=len(good),
        ok=sum(times[name] == 1 for name in right),
        lost=len(good.keys() - times.keys()),
        duplicated=sum(count - 1 for count in times.values()),
        mixed=len(times.keys() - right),
    )


def _rows(table: Path) -> Iterator[tuple[str, Any]]:
    """Id of every image → its part and its whole row; a part that cannot be read has no rows."""
    for part in sorted(table.glob("*.parquet")):
        try:
            rows = pq.read_table(part).to_pylist()
        except (pa.ArrowException, OSError):
            continue
        for row in rows:
            yield row["image_id"], (part.name, row)


def _steps(training: Path) -> Iterator[tuple[str, Any]]:
    history, model = training / "history.json", training / "model.safetensors"
    if history.exists() and model.exists():
        for figures in json.loads(history.read_text()):
            yield f"step {figures['step']}", figures
        yield "model", model.read_bytes()


def _files(store: Path) -> Iterator[tuple[str, Any]]:
    for file in sorted(store.rglob("*")):
        if file.is_file() and not file.name.startswith(".tmp-"):
            content = file.read_bytes().replace(str(store).encode(), b"STORE")
            yield str(file.relative_to(store)), content


def _figures(run: Path) -> Iterator[tuple[str, Any]]:
    metrics = run / "metrics.json"
    if metrics.exists():
        told = json.loads(metrics.read_text())
        del told["seconds"], told["checksum"]  # the latter is of the former as well
        yield from _leaves("", told)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(f"{name}.{key}", below)
    else:
        yield name, value
