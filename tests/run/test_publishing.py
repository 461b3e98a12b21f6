"""What decides whether a run is published: shares that gates look at, and the lease."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dcsp.config.file import parse_config
from dcsp.errors import HeldBackError, StoreError
from dcsp.run.history import read_history
from dcsp.run.plan import Plan, build_plan
from dcsp.run.publishing import settle
from dcsp.run.record import save_run
from dcsp.store.store import Store
from dcsp.tables.layout import current_run, metrics_file, rejected_file
from dcsp.tables.schemas import REJECTED
from dcsp.tables.snapshot import CorpusPart, Snapshot

REASONS = ["truncated"] * 3 + ["erased"] * 2 + ["unknown_tag"]
"""Of which three lost an image, two were erased, and one lost a tag alone."""
SNAPSHOT = Snapshot(("cat",), (CorpusPart("aa", "train", 9), CorpusPart("bb", "val", 4)))


def ended(place: Path, **settings: Any) -> tuple[Store, Plan]:
    """A run with figures and without tables."""
    corpus = {"corpus": {"kind": "scenes"}, "store": str(place)}
    snapshot = replace(SNAPSHOT, rejected=5)
    store, plan = Store(place), build_plan(parse_config(corpus | settings), snapshot)
    rows = [{name: "x" for name in REJECTED.names} | {"reason": reason} for reason in REASONS]
    store.write_table(rejected_file(snapshot.fingerprint), pa.Table.from_pylist(rows, REJECTED))
    save_run(store, plan, {})
    store.write_json(metrics_file(plan.run_id), {"run_id": plan.run_id})
    return store, plan


def test_erased_images_and_dropped_tags_are_no_rejected_images(tmp_path: Path) -> None:
    store, plan = ended(tmp_path, gates={"max_rejected_share": 3 / 17})
    with pytest.raises(HeldBackError):
        settle(store, plan, "relabel", lambda: None)
    (reason,) = read_history(store).events[-1].reasons
    assert reason.startswith("rejected_share is 0.19, more than the 0.18 allowed")  # 3 of 16
    store, plan = ended(tmp_path / "two", gates={"max_rejected_share": 3 / 16})
    settle(store, plan, "relabel", lambda: None)
    assert current_run(store) == plan.run_id


@pytest.mark.parametrize("gates", [{}, {"min_miou": 50}], ids=["published", "held back"])
def test_a_job_that_lost_the_store_writes_nothing(tmp_path: Path, gates: dict[str, float]) -> None:
    store, plan = ended(tmp_path, gates=gates, notify={"command": f"touch {tmp_path}/told"})
    before = store.files().keys()

    def lost() -> None:
        raise StoreError("lost")

    with pytest.raises(StoreError, match="lost"):
        settle(store, plan, "relabel", lost)
    assert store.files().keys() == before


def test_a_run_whose_figures_are_gone_is_no_hindrance_to_the_next(tmp_path: Path) -> None:
    store, plan = ended(tmp_path, gates={"max_rejected_share": 0.5})
    store.write_bytes("CURRENT", b"of-an-earlier-store\n")
    settle(store, plan, "relabel", lambda: None)
    assert read_history(store).events[-1].before == "of-an-earlier-store"
    strict = replace(
        plan,
        config=parse_config(
            {**plan.config.model_dump(), "name": "strict", "gates": {"max_miou_drop": 5}}
        ),
    )
    save_run(store, strict, {})
    store.write_json(metrics_file(strict.run_id), {"val": {"miou_published": 60.0}})
    with pytest.raises(HeldBackError, match=r"max_miou_drop"):
        settle(store, strict, "relabel", lambda: None)
    assert "was not measured on the same split" in read_history(store).events[-1].reasons[0]
