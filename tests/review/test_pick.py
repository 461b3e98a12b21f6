"""Picking: distrusted, rare and unlike one another, whatever the size of the store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run
from dcsp.review import pick as picking
from dcsp.review.pick import choose, pick, worth
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file, part_file
from dcsp.tables.schemas import CORRECTIONS, TRUST
from dcsp.tables.snapshot import CorpusPart, Snapshot

CLASSES = ("cat", "dog", "cow")
TRUST_TABLE, DRAWN = "trust/0123456789abcdef0123", "corrections/0123456789abcdef0123"


def row(name: str, *classes: tuple[int, float], status: str = "ok") -> dict[str, Any]:
    scores = [score for _, score in classes]
    return {
        "image_id": name,
        "height": 4,
        "width": 4,
        "status": status,
        "score": (float(np.mean(scores)) if scores else 0.5) if status == "ok" else None,
        "classes": [
            {"class": c, "pixels": 1, "score": score, "reasons": []} for c, score in classes
        ]
        if status == "ok"
        else None,
    }


def slow_choice(worth: NDArray[np.float64], budget: int) -> list[int]:
    """Each time look at all that is left."""
    picked: list[int] = []
    while len(picked) < budget:
        covered = (worth[picked] > 0).sum(axis=0)
        now = [float((values / (1 + covered)).sum()) for values in worth]
        left = [i for i in range(len(worth)) if i not in picked and worth[i].sum() > 0]
        if not left:
            break
        picked.append(max(left, key=lambda i: (now[i], -i)))
    return picked


@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(1, 12))
def test_looking_at_few_finds_what_looking_at_all_does(seed: int, images: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 0, 0.25, 0.5, 1.0], (images, 4))
    assert choose(values, budget) == slow_choice(values, budget)


def test_worth_is_distrust_by_rarity() -> None:
    rows = [
        row("a", (1, 0.25), (3, 1.0)),
        row("b"),
        row("c", status="error"),
        row("d", (2, 0.0)),
    ]
    table = pa.Table.from_pylist(rows, TRUST).slice(0)
    found = worth(table, np.array([0.1, 0.5, 0.25, 1.0]))
    assert found == pytest.approx(
        np.array([[0, 0.375, 0, 0], [0.05, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.25, 0]])
    )
    assert worth(table.slice(3), np.array([0.1, 0.5, 0.25, 1.0]))[0, 2] == pytest.approx(0.25)


@given(st.floats(0, 1), st.floats(0, 1))
def test_less_trust_is_never_worth_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    table = pa.Table.from_pylist([row("a", (1, low)), row("b", (1, high))], TRUST)
    found = worth(table, np.ones(4)).sum(axis=1)
    assert found[0] >= found[1]


def test_a_class_does_not_get_all_of_the_budget() -> None:
    values = np.zeros((20, 3))
    values[:10, 1], values[10:, 2] = 1.0, 0.6
    picked = choose(values, 6)
    assert 2 <= sum(index >= 10 for index in picked) <= 3


def store_of(store: Store, parts: list[list[dict[str, Any]]], **record: Any) -> Run:
    snapshot = Snapshot(
        CLASSES, tuple(CorpusPart(f"p{n}", "train", len(rows)) for n, rows in enumerate(parts))
    )
    snapshot.save(store)
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows, TRUST)
        store.write_table(part_file(TRUST_TABLE, f"p{number}"), table)
    told = [c for rows in parts for r in rows for c in r["classes"] or ()]
    counts = {
        name: {
            "images": sum(c["class"] == id_ for c in told),
            "without_pixels": 0,
        }
        for id_, name in enumerate(CLASSES, start=1)
    }
    images = sum(map(len, parts))
    store.write_json(metrics_file("run"), {"trust": {"images": images, "per_class": counts}})
    steps = [{"role": Role.TRUST.value, "directory": TRUST_TABLE}]
    tree = {
        "snapshot": snapshot.fingerprint,
        "steps": steps,
        "config": {"predict": {"splits": ["train", "val"]}},
    }
    return Run("run", tree | record, {}, True)


def some_parts(rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    return [
        [
            row(f"{part}-{n}", *((int(c), float(rng.random())) for c in {*rng.integers(1, 4, 2)}))
            for n in range(30)
        ]
        for part in range(4)
    ]


def test_part_by_part_is_as_all_at_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, parts = Store(tmp_path), some_parts(np.random.default_rng(0))
    run = store_of(store, parts)
    rows = [r for part in parts for r in part]
    told = store.read_json(metrics_file("run"))["trust"]
    weights = 1 / np.array([told["images"], *(c["images"] for c in told["per_class"].values())])
    values = worth(pa.Table.from_pylist(rows, TRUST), weights)
    order = np.argsort(-values.sum(axis=1), kind="stable")
    expected = [rows[order[i]]["image_id"] for i in choose(values[order], 9)]
    for most in (10_000, 60):  # what is kept meanwhile is enough either way
        monkeypatch.setattr(picking, "_MOST", most)
        monkeypatch.setattr(picking, "_EACH", 1)
        found = [p.image_id for p in pick(store, run, 9)]
        assert found == expected


def test_what_is_corrected_or_failed_or_gone_is_not_picked(tmp_path: Any) -> None:
    store = Store(tmp_path)
    parts = [[row(f"0-{n}", (1, 0.1), status="error" if n == 4 else "ok") for n in range(6)]]
    run = store_of(store, parts)
    snapshot = Snapshot(CLASSES, (CorpusPart("p0", "train", 6, dead=(0,)),))
    snapshot.save(store)
    drawn = [
        {"image_id": f"0-{n}", "height": 4, "width": 4, "status": "ok" if n == 2 else "skipped"}
        for n in range(6)
    ]
    store.write_table(part_file(DRAWN, "p0"), pa.Table.from_pylist(drawn, CORRECTIONS))
    steps = [*run.record["steps"], {"role": Role.CORRECTIONS.value, "directory": DRAWN}]
    record = dict(run.record) | {"steps": steps, "snapshot": snapshot.fingerprint}
    run = Run("run", record, {}, True)
    for seed in (None, 0):
        picked = sorted(p.image_id for p in pick(store, run, 10, seed))
        assert picked == ["0-1", "0-3", "0-5"]


def test_at_random_each_image_has_the_same_chance(tmp_path: Any) -> None:
    store, parts = Store(tmp_path), some_parts(np.random.default_rng(1))
    run = store_of(store, parts)
    times: dict[str, int] = {}
    for seed in range(200):
        found = pick(store, run, 12, seed)
        assert len(found) == len({p.image_id for p in found}) == 12
        for p in found:
            times[p.image_id] = times.get(p.image_id, 0) + 1
    assert pick(store, run, 12, 3) == pick(store, run, 12, 3) != pick(store, run, 12, 4)
    counts = np.zeros(120)
    counts[: len(times)] = [*times.values()]  # 200 draws of 12 of 120: 20 each, give or take 4.2
    assert len(times) == 120 and np.ptp(counts) < 30 and abs(counts.std() - 4.2) < 1.5


def test_a_run_without_trust_of_training_images_is_told(tmp_path: Any) -> None:
    store = Store(tmp_path)
    run = store_of(store, [[row("a", (1, 0.5))]], config={"predict": {"splits": ["val"]}})
    with pytest.raises(StoreError, match="The run run rates no labels of training images"):
        pick(store, run, 1)
