"""Paces of stages that ended, from what they wrote about themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcsp.capacity.pace import Pace, earlier_paces
from dcsp.config.file import parse_config
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import begin_stage
from dcsp.store.store import Store
from dcsp.tables.layout import STAGE_FILE
from dcsp.tables.snapshot import CorpusPart, Snapshot

RECORD = {"rows": {"ok": 90, "skipped": 8, "error": 2}, "bytes": 5000, "seconds": 30.0}
RECORD |= {"computed": 60, "actors": 4, "finished": "2026-01-02"}
TRAINED = {"steps": 50, "seconds": 100.0, "bytes": 7000, "finished": "2026-01-02"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def plan(store: Store, **blocks: Any) -> Plan:
    scenes = {"kind": "scenes"}
    network = {"backbone": "resnet18", "weights": "random"}
    tree = {"store": store.url, "corpus": scenes, "network": network, **blocks}
    return build_plan(parse_config(tree), Snapshot(("cat",), (CorpusPart("p", "train", 3),)))


def ended(store: Store, of: Plan, title: str, name: str, record: dict[str, Any]) -> None:
    """As if the stage of a plan had ended."""
    key = of.step(title).stage.key
    begin_stage(store, key)
    store.write_json(f"{key.directory}/{name}", record)


def test_nothing_is_known_of_an_empty_store(store: Store) -> None:
    assert earlier_paces(store, plan(store)) == {}


def test_a_table_tells_seconds_of_an_actor_and_bytes_an_image(store: Store) -> None:
    ended(store, plan(store), "saliency", "complete-a.json", RECORD)
    expected = Pace("earlier", 0.0, 30 * 4 / 60, 0.0, 50.0)
    assert earlier_paces(store, plan(store)) == {"saliency": expected}


@pytest.mark.parametrize("change", [{"computed": 0}, {"actors": None}])
def test_who_computed_nothing_tells_nothing(store: Store, change: dict[str, Any]) -> None:
    ended(store, plan(store), "saliency", "complete-a.json", RECORD | change)
    assert earlier_paces(store, plan(store)) == {}


def test_a_manifest_of_an_older_version_tells_nothing(store: Store) -> None:
    older = {name: RECORD[name] for name in RECORD if name not in ("computed", "actors")}
    ended(store, plan(store), "saliency", "complete-a.json", older)
    assert earlier_paces(store, plan(store)) == {}


def test_the_latest_of_other_settings_is_taken(store: Store) -> None:
    for number, gamma in enumerate((0.1, 0.2, 0.15)):
        other = plan(store, cues={"dcsp": {"gamma_low": gamma, "gamma_high": 0.5}})
        record = RECORD | {"bytes": 100 * number, "finished": f"2026-01-0{number + 1}"}
        ended(store, other, "cues_phase0", "complete-a.json", record)
    found = earlier_paces(store, plan(store))
    assert found["cues_phase0"].bytes == 2.0
    assert set(found) == {"cues_phase0"}, "cues of a later phase are made in another way"


def test_a_training_tells_seconds_a_step_to_those_like_it(store: Store) -> None:
    ended(store, plan(store), "fcan", "complete.json", TRAINED)
    longer = plan(store, fcan={"steps": 99})
    assert earlier_paces(store, longer) == {"fcan": Pace("earlier", 0.0, 2.0, 0.0, 7000)}
    for other in ({"crop": 64}, {"batch": 3}, {"train_backbone": False}):
        assert earlier_paces(store, plan(store, fcan=other)) == {}


def test_a_directory_without_its_key_is_passed_over(store: Store) -> None:
    ended(store, plan(store), "fcan", "complete.json", TRAINED)
    store.remove(f"{plan(store).step('fcan').stage.key.directory}/{STAGE_FILE}")
    assert earlier_paces(store, plan(store)) == {}
