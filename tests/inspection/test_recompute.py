"""A run that would do finished work once more stops and says why; whoever means it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcsp.config.file import parse_config
from dcsp.errors import ConfigError
from dcsp.inspection.recompute import FEW, check_recompute
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import publish, save_run, step_record, table_rows
from dcsp.stages.parts import begin_stage
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import (
    CARD_FILE,
    COMPLETE_FILE,
    MODEL_FILE,
    STAGE_FILE,
    manifest_file,
    metrics_file,
    part_file,
)
from dcsp.tables.snapshot import CorpusPart, Snapshot

SNAPSHOT = Snapshot(
    ("cat", "dog"),
    (CorpusPart("aa", "train", FEW), CorpusPart("bb", "val", 100)),
    lineage="zoo",
    added=FEW,
)
GROWN = replace(SNAPSHOT, parts=(*SNAPSHOT.parts, CorpusPart("cc", "train", 20)))
TRAIN = {"steps": 100, "batch": 10}
NAMED_ALL = "fcan, cues_phase0, joint_phase0, cues_phase1, joint_phase1, predictions, trust"


def plan(snapshot: Snapshot = SNAPSHOT, **settings: Any) -> Plan:
    corpus = {"kind": "folder", "root": "/zoo", "classes": list(snapshot.classes)}
    tree: dict[str, Any] = {
        "store": "x",
        "corpus": corpus,
        "network": {"backbone": "resnet18", "weights": "random"},
        "fcan": TRAIN,
        "joint": TRAIN,
    }
    for key, value in settings.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    return build_plan(parse_config(tree), snapshot)


def end(store: Store, done: Plan) -> None:
    """Leave what a run leaves."""
    for step in done:
        key = step.stage.key
        begin_stage(store, key)
        if step.stage.learns:
            for file in (MODEL_FILE, CARD_FILE, COMPLETE_FILE):
                store.write_json(f"{key.directory}/{file}", {"seconds": 1})
            continue
        for part in done.parts(step):
            store.write_bytes(part_file(key.directory, part.name), b"rows")
        rows = {"ok": sum(part.live for part in done.parts(step)), "skipped": 0, "error": 0}
        manifest = {"seconds": 1, "rows": rows}
        store.write_json(manifest_file(key, step.scope(done.snapshot)), manifest)
    done.snapshot.save(store)
    save_run(store, done, {})
    seconds = {step.title: step_record(store, done, step)["seconds"] for step in done}
    metrics = {"rows": table_rows(store, done), "seconds": seconds}
    store.write_json(metrics_file(done.run_id), metrics)
    publish(store, done.run_id)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    end(store, plan())
    return store


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a detector's card": (
        {"saliency": {"detectors": {"model": "u2netp", "mirror": True}}},
        "mirror: None → True (saliency)",
    ),
    "a training": ({"fcan": {"crop": 65}}, "settings.train.crop: 321 → 65 (fcan)"),
    "the network": ({"network": {"max_side": 300}}, "settings.network.max_side"),
    "the seed": ({"seed": 7}, "seed: 0 → 7 (fcan)"),
    "the cue method": ({"cues": {"method": "builtin"}}, "(cues_phase0)"),
    "self-tags": ({"selftags": {"use": "train"}}, "(joint_phase0)"),
}


@pytest.mark.parametrize(("settings", "why"), REFUSED.values(), ids=REFUSED)
def test_a_changed_setting_that_costs_most_of_the_run_before_is_refused_with_its_name(
    store: Store, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError) as told:
        check_recompute(store, plan(**settings))
    line = str(told.value)
    assert why in line and "\n" not in line and "max_recompute_share=1, or under another" in line


def test_what_would_be_made_anew_is_counted_by_images_of_stages(store: Store) -> None:
    """Saliency is 600 and stays; the rest are 3 trainings of 1000, cues of 500, labels of 600."""
    with pytest.raises(ConfigError, match=f"make anew {NAMED_ALL}: 5.200 of the 5.800 images"):
        check_recompute(store, plan(seed=7))


def test_another_version_of_a_stage_is_refused_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcsp.training.stage.VERSION", 99)
    with pytest.raises(ConfigError, match=r"because of version: 1 → 99 \(fcan\): set"):
        check_recompute(store, plan())


def test_other_weights_are_refused_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcsp.methods.shared.weights_digest", lambda *_: "ab" * 32)
    with pytest.raises(ConfigError, match=r"weights\.detector: .* \(saliency\)"):
        check_recompute(store, plan())


def test_a_corpus_with_other_classes_is_refused_with_the_setting(store: Store) -> None:
    other = replace(SNAPSHOT, classes=("cat", "dog", "fox"), lineage="larger zoo")
    with pytest.raises(ConfigError, match=r"corpus\.classes: .*'fox'"):
        check_recompute(store, plan(other))


ALLOWED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "what few stages depend on": {"predict": {"crf": False}},
    "another name": {"seed": 7, "name": "other"},
    "whoever means it": {"seed": 7, "max_recompute_share": 1},
    "a higher limit": {"seed": 7, "max_recompute_share": 0.95},
    "settings that decide no output": {"report": {"gallery": 3}, "cluster": {"actors": 2}},
}


@pytest.mark.parametrize("settings", ALLOWED.values(), ids=ALLOWED)
def test_a_run_goes_on_with(store: Store, settings: dict[str, Any]) -> None:
    check_recompute(store, plan(**settings))


def test_new_images_are_no_loss(store: Store) -> None:
    check_recompute(store, plan(GROWN))
    check_recompute(store, plan(GROWN, joint={"epochs": 3}))
    check_recompute(store, plan(replace(SNAPSHOT, parts=GROWN.parts[1:])))  # some are gone


def test_saliency_is_a_loss_though_the_corpus_grew(store: Store) -> None:
    """What new images make anew is not counted, and what would have stayed is."""
    thresholds = {"thresholds": [0.6, 0.8]}
    check_recompute(store, plan(GROWN, saliency=thresholds))
    with pytest.raises(ConfigError, match=r"make anew saliency: 600 of the 5.800"):
        check_recompute(store, plan(GROWN, saliency=thresholds, max_recompute_share=0.1))


def test_what_was_done_before_is_no_loss(store: Store) -> None:
    """Back to settings that a run had once."""
    end(store, plan(seed=7))
    check_recompute(store, plan())


def test_a_first_run_and_one_that_did_not_end_are_no_loss(tmp_path: Path) -> None:
    store = Store(tmp_path)
    check_recompute(store, plan())
    end(store, plan())
    store.remove(metrics_file(plan().run_id))
    check_recompute(store, plan(seed=7))


def test_few_images_are_no_loss(tmp_path: Path) -> None:
    few = replace(SNAPSHOT, parts=(CorpusPart("aa", "train", FEW - 1),))
    end(Store(tmp_path), plan(few))
    check_recompute(Store(tmp_path), plan(few, seed=7))


def test_the_last_run_of_the_name_counts_where_another_is_published(store: Store) -> None:
    end(store, plan(name="other", seed=3))
    with pytest.raises(ConfigError, match="seed: 0 → 7"):
        check_recompute(store, plan(seed=7))
    with pytest.raises(ConfigError, match="seed: 3 → 7"):
        check_recompute(store, plan(name="other", seed=7))


@pytest.mark.parametrize("gone", ["stage", "snapshot"])
def test_where_nothing_says_what_a_run_was_it_is_not_asked(store: Store, gone: str) -> None:
    done = plan()
    if gone == "snapshot":
        store.remove(f"corpus/{done.snapshot.fingerprint}.json")
    else:
        for step in done:
            store.remove(f"{step.stage.key.directory}/{STAGE_FILE}")
    check_recompute(store, plan(seed=7))


def test_corrections_are_asked_for_and_no_loss(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "corrections"
    folder.mkdir()
    for number in range(2):  # the first of all, then another one
        (folder / f"{number}.png").write_bytes(b"whatever people drew")
        corrected = plan(corrections=str(folder))
        assert not {s.stage.key.fingerprint for s in plan() if s.role is Role.JOINT} & {
            s.stage.key.fingerprint for s in corrected
        }
        check_recompute(store, corrected)
        end(store, corrected)


def test_the_last_corrections_may_be_taken_away(tmp_path: Path) -> None:
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections/0.png").write_bytes(b"whatever people drew")
    end(Store(tmp_path), plan(corrections=str(tmp_path / "corrections")))
    check_recompute(Store(tmp_path), plan())


@pytest.fixture
def corrected_store(store: Store, tmp_path: Path) -> tuple[Store, str]:
    folder = tmp_path / "corrections"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"whatever people drew")
    end(store, plan(corrections=str(folder)))
    return store, str(folder)


def test_corrections_that_stayed_guard_what_reads_them(corrected_store: tuple[Store, str]) -> None:
    store, folder = corrected_store
    check_recompute(store, plan(corrections=folder))
    with pytest.raises(ConfigError, match=r"make anew joint_phase0.*learning_rate: .*_phase0\)"):
        check_recompute(store, plan(corrections=folder, joint={"learning_rate": 0.5}))


def test_corrections_that_came_do_not_excuse_what_is_before_them(
    corrected_store: tuple[Store, str],
) -> None:
    store, folder = corrected_store
    Path(folder, "1.png").write_bytes(b"more")
    check_recompute(store, plan(corrections=folder, joint={"learning_rate": 0.5}))  # anew anyway
    with pytest.raises(ConfigError, match=r"make anew saliency, fcan, cues_phase0: 2.100 of"):
        earlier = {"saliency": {"thresholds": [0.6, 0.8]}, "seed": 7, "max_recompute_share": 0.2}
        check_recompute(store, plan(corrections=folder, **earlier))


def test_another_version_of_their_table_is_no_correction(
    corrected_store: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcsp.corrections.table.VERSION", 99)
    store, folder = corrected_store
    with pytest.raises(
        ConfigError, match=r"make anew corrections, joint_phase0.*version: \d+ → 99"
    ):
        check_recompute(store, plan(corrections=folder))
