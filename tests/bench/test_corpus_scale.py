"""What a job does before its work costs as many look-ups in a store of many parts as of few."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcsp.capacity.pace import earlier_paces
from dcsp.capacity.workload import largest_part, work_of
from dcsp.run.overview import stages_text
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import PartsMade, complete_table
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot
from tests.bench import corpus_scale
from tests.bench.corpus_scale import Size, finish_cues, stage_of, write_store

FEW, MANY = Size(3_000, 30), Size(24_000, 240)


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a store is asked for what."""
    asked: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(Store, name)

        def call(self: Store, *arguments: Any) -> Any:
            asked[name] += 1
            return original(self, *arguments)

        return call

    with patch.context() as within:
        for name in ("exists", "sizes", "read_bytes", "read_table", "write_bytes"):
            within.setattr(Store, name, counting(name))
        yield asked


def start_up(plan: Plan) -> None:
    """All that is done on the driver before and after the work of a resumed run."""
    store = Store(plan.config.store)
    snapshot = Snapshot.load(store, plan.snapshot.fingerprint)
    own = build_plan(plan.config, snapshot)
    assert "will run" in stages_text(store, plan.config, snapshot)
    for work in work_of(store, own, earlier_paces(store, own)):
        assert work.parts <= len(snapshot.parts)
    assert largest_part(store, snapshot) > 0
    step = own.step("cues_phase0")
    parts = step.parts(snapshot)
    assert not stage_of(step).pending(store, parts)
    complete_table(store, step.stage.key, parts, PartsMade(), 1.0)


@pytest.mark.parametrize("remembered", [True, False])
def test_look_ups_do_not_grow_with_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    found = []
    for size in (FEW, MANY):
        plan = write_store(tmp_path / str(size.parts), size)
        finish_cues(tmp_path / str(size.parts), plan, remembered=remembered)
        with counted(monkeypatch) as asked:
            start_up(plan)
        parts = len(plan.snapshot.of(["train"]))
        assert asked.pop("read_table", 0) == (parts - parts // 2 if remembered else parts)
        with counted(monkeypatch) as again:  # the same once more: now all is remembered
            start_up(plan)
        assert not again["read_table"]
        found.append((asked, again))
    assert found[0] == found[1]
    assert sum(found[1][0].values()) < 100


@pytest.mark.slow
def test_the_quick_bench_prints_and_writes_every_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("dry run (dcsp plan without cluster)",)
    monkeypatch.setattr(corpus_scale, "MEASURED", names)
    monkeypatch.setattr(corpus_scale, "SMALLER", (corpus_scale.LISTING,))
    out = tmp_path / "scale.json"
    corpus_scale.main(["--quick", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "100,000 rows: planning and resume listing take" in printed
    assert "within the limits" in printed
    written = json.loads(out.read_text(encoding="utf-8"))
    assert [entry["name"] for entry in written["found"]] == [*names, corpus_scale.LISTING, *names]
    assert all(entry["peak"] > 2**20 for entry in written["found"])
    assert written["machine"]["memory_gib"] > 0 and written["quick"]
