"""Which images a report shows, over tables written by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dcsp.report.choice import choose
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import CorpusPart

ROWS = 10
SCORES = np.random.default_rng(5).permutation(400).astype(np.float32).reshape(40, ROWS) / 400


def plan_of(store: Store, *, gallery: int = 24, has_trust: bool = True) -> Any:
    """40 parts of 10 rows, the last ten of them val; row 3 of part 0 is dead."""
    parts = [
        CorpusPart(f"p{n:02}", "train" if n < 30 else "val", ROWS, dead=(3,) if n == 0 else ())
        for n in range(40)
    ]
    for number, part in enumerate(parts):
        ids = [f"i{number}-{row}" for row in range(ROWS)]
        table = pa.table({"image_id": ids, "score": pa.array(SCORES[number])})
        directory = "trust/t" if has_trust else CORPUS_DIRECTORY
        store.write_table(part_file(directory, part.name), table)
    trust = SimpleNamespace(stage=SimpleNamespace(key=SimpleNamespace(directory="trust/t")))
    return SimpleNamespace(
        config=SimpleNamespace(
            report=SimpleNamespace(gallery=gallery),
            corpus=SimpleNamespace(splits=("train", "val")),
        ),
        snapshot=SimpleNamespace(parts=parts),
        labelled=("train", "val"),
        of=lambda role: [trust] if has_trust and role is Role.TRUST else [],
    )


def test_all_images_of_a_small_corpus_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chosen = choose(store, plan_of(store))
    assert sum(len(c.full) + len(c.others) for c in chosen) == 399
    assert not any(set(c.full) & set(c.others) for c in chosen)
    full = {split: [] for split in ("train", "val")}  # type: dict[str, list[float]]
    live = np.delete(SCORES[0], 3)
    for number, c in enumerate(chosen):
        scores = live if number == 0 else SCORES[number]
        full[c.part.split] += [float(scores[row]) for row in c.full]
    assert len(full["train"]) == 16 and len(full["val"]) == 8
    assert np.allclose(sorted(full["val"])[:4], np.sort(SCORES[30:].ravel())[:4])
    train = np.sort(np.concatenate([live, SCORES[1:30].ravel()]))
    assert np.allclose(sorted(full["train"])[:8], train[:8])


def test_of_a_large_corpus_the_least_trusted_and_a_sample_of_all_parts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chosen = choose(store, plan_of(store), listed=100, worst=30)
    taken = {
        (c.part.name, row): (np.delete(SCORES[0], 3) if c.part.name == "p00" else
                             SCORES[int(c.part.name[1:])])[row]
        for c in chosen
        for row in (*c.full, *c.others)
    }  # fmt: skip
    assert len(taken) == 100
    every = np.sort(np.concatenate([np.delete(SCORES[0], 3), SCORES[1:].ravel()]))
    assert np.allclose(sorted(taken.values())[:30], every[:30])
    sampled = [c.part.name for c in chosen if len(c.full) + len(c.others) >= 7]
    assert 6 <= len(sampled) <= 10  # few parts are read for the sample
    assert {c.part.split for c in chosen if c.part.name in sampled} == {"train", "val"}


@pytest.mark.parametrize("listed", [400, 60])
def test_without_trust_there_is_a_sample_alone(tmp_path: Path, listed: int) -> None:
    store = Store(tmp_path)
    chosen = choose(store, plan_of(store, has_trust=False), listed=listed, worst=30)
    assert sum(len(c.full) + len(c.others) for c in chosen) == min(399, listed)


def test_a_report_that_is_to_show_no_image_shows_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert choose(store, plan_of(store, gallery=0)) == []
