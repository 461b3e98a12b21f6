"""What a run leaves, and the one small pointer that publishes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcsp.config.file import parse_config
from dcsp.errors import ConfigError, StoreError, WeightsError
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import (
    load_model,
    load_run,
    publish,
    save_run,
    step_record,
    table_rows,
)
from dcsp.store.store import Store
from dcsp.tables.layout import (
    CARD_FILE,
    COMPLETE_FILE,
    CURRENT,
    MODEL_FILE,
    current_run,
    manifest_file,
    metrics_file,
    report_file,
    run_directory,
    run_file,
)
from dcsp.tables.snapshot import CorpusPart, Snapshot

SNAPSHOT = Snapshot(("cat",), (CorpusPart("aa", "train", 4), CorpusPart("bb", "val", 2)))


def plan(name: str = "run", weights: str = "random", detector: str = "u2netp") -> Plan:
    tree = {
        "store": "x",
        "name": name,
        "corpus": {"kind": "scenes"},
        "network": {"backbone": "resnet18", "weights": weights},
        "saliency": {"detectors": [{"model": detector}]},
        "cues": {"adapt": {"rounds": 2}},
    }
    return build_plan(parse_config(tree), SNAPSHOT)


def end_every_stage(store: Store, done: Plan) -> None:
    for number, step in enumerate(done.steps):
        if step.stage.learns:
            for file in (MODEL_FILE, CARD_FILE, COMPLETE_FILE):
                store.write_json(f"{step.stage.key.directory}/{file}", {"seconds": number})
        else:
            rows = {"ok": number, "skipped": 1, "error": 0}
            file = manifest_file(step.stage.key, step.scope(done.snapshot))
            store.write_json(file, {"seconds": number, "rows": rows})


def test_a_saved_run_gives_its_plan_again(store_of_runs: Store) -> None:
    made = plan()
    save_run(store_of_runs, made, {"saliency": True})
    run, again = load_run(store_of_runs, made.run_id)
    assert again == made and again.run_id == made.run_id
    assert (
        run["snapshot"] == SNAPSHOT.fingerprint
        and made.model
        and run["model"] == made.model.key.directory
    )
    computed = {step["title"]: step["computed"] for step in run["steps"]}
    assert [title for title, yes in computed.items() if yes] == ["saliency"]
    assert set(computed) == {step.title for step in made}


@pytest.mark.parametrize(
    ("told", "synonyms"),
    [
        ({"aliases": {}}, {}),
        ({"aliases": {"kitty": "cat", "pup": "Dog"}}, {"cat": ("kitty",), "Dog": ("pup",)}),
        ({"aliases": {"pup": "dog"}, "synonyms": {"dog": ["hound"]}}, {"dog": ("hound", "pup")}),
    ],
    ids=str,
)
def test_aliases_of_earlier_runs_are_synonyms(
    store_of_runs: Store, told: dict[str, Any], synonyms: dict[str, tuple[str, ...]]
) -> None:
    made = plan()
    save_run(store_of_runs, made, {})
    file = f"{run_directory(made.run_id)}/run.json"
    run = store_of_runs.read_json(file)
    run["config"]["corpus"] |= told
    store_of_runs.write_json(file, run)
    assert load_run(store_of_runs, made.run_id)[1].config.corpus.synonyms == synonyms


def test_a_run_may_end_with_its_cues(store_of_runs: Store) -> None:
    made = plan().until("cues_phase1")
    assert made.model is None and made.labelled == () and made.run_id != plan().run_id
    save_run(store_of_runs, made, {})
    run, again = load_run(store_of_runs, made.run_id)
    assert again == made and again.steps[-1].title == "cues_phase1" and run["model"] is None


@pytest.mark.parametrize("gone", ["backbone.pth", "detector.onnx"])
def test_a_network_needs_no_file_that_it_was_made_with(
    store_of_runs: Store, tmp_path: Path, gone: str
) -> None:
    files = [tmp_path / name for name in ("backbone.pth", "detector.onnx")]
    for file in files:
        file.write_text("weights")
    made = plan(weights=str(files[0]), detector=str(files[1]))
    save_run(store_of_runs, made, {})
    end_every_stage(store_of_runs, made)
    (tmp_path / gone).unlink()
    model = load_model(store_of_runs, made.run_id)
    assert made.model and model.checkpoint == made.model.key.directory
    assert (model.run_id, model.config, model.classes) == (made.run_id, made.config, ("cat",))
    with pytest.raises(WeightsError, match=gone):
        load_run(store_of_runs, made.run_id)


def test_a_network_outlives_the_versions_of_its_stages(
    store_of_runs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    save_run(store_of_runs, made, {})
    end_every_stage(store_of_runs, made)
    monkeypatch.setattr("dcsp.training.stage.VERSION", 1000)
    assert made.model
    assert load_model(store_of_runs, made.run_id).checkpoint == made.model.key.directory
    with pytest.raises(StoreError, match="another fingerprint now"):
        load_run(store_of_runs, made.run_id)


def test_a_run_without_a_network_is_told(store_of_runs: Store) -> None:
    with pytest.raises(StoreError, match="no published run"):
        load_model(store_of_runs)
    for made in (plan().until("cues_phase1"), plan()):
        save_run(store_of_runs, made, {})
    with pytest.raises(StoreError, match="ended with its cues and has no network"):
        load_model(store_of_runs, plan().until("cues_phase1").run_id)
    with pytest.raises(StoreError, match=r"is not in .*checkpoints/.*submit the run's job again"):
        load_model(store_of_runs, plan().run_id)


@pytest.fixture
def store_of_runs(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    SNAPSHOT.save(store)
    return store


def test_publishing_moves_one_pointer(store_of_runs: Store) -> None:
    store = store_of_runs
    assert current_run(store) is None
    with pytest.raises(StoreError, match="no published run"):
        load_run(store)
    for name in ("one", "two"):
        save_run(store, plan(name), {})
        store.write_json(metrics_file(plan(name).run_id), {})
    before = set(store.list("runs"))
    for name in ("one", "two", "one"):  # and back again
        publish(store, plan(name).run_id)
        assert current_run(store) == plan(name).run_id
        assert load_run(store)[1].run_id == plan(name).run_id
    assert set(store.list("runs")) == before
    assert store.read_bytes(CURRENT) == f"{plan('one').run_id}\n".encode()


def test_a_run_that_has_not_ended_is_never_published(store_of_runs: Store) -> None:
    save_run(store_of_runs, plan(), {})
    with pytest.raises(StoreError, match="has not ended: run it to its end first"):
        publish(store_of_runs, plan().run_id)
    assert current_run(store_of_runs) is None


def test_unknown_runs_and_settings_are_told(store_of_runs: Store) -> None:
    with pytest.raises(StoreError, match=r"has no runs/nosuch/run\.json"):
        load_run(store_of_runs, "nosuch")
    save_run(store_of_runs, plan(), {})
    file = f"{run_directory(plan().run_id)}/run.json"
    run = store_of_runs.read_json(file)
    run["config"]["fcan"]["dropout"] = 0.5
    store_of_runs.write_json(file, run)
    with pytest.raises(ConfigError, match=r"the config of the run run-.*'fcan\.dropout'"):
        load_run(store_of_runs, plan().run_id)


def test_rows_and_seconds_come_from_what_stages_wrote(store_of_runs: Store) -> None:
    made = plan()
    end_every_stage(store_of_runs, made)
    for number, step in enumerate(made.steps):
        assert step_record(store_of_runs, made, step)["seconds"] == number
    rows = table_rows(store_of_runs, made)
    assert rows["corpus"] == {"ok": 6, "skipped": 0, "error": 0}
    tables = {step.title for step in made if not step.stage.learns}
    assert set(rows) == {"corpus", "cues", *tables}
    assert rows["cues"] == rows["cues_phase2"] != rows["cues_phase0"]


def test_a_stage_that_has_not_ended_has_no_record(store_of_runs: Store) -> None:
    with pytest.raises(StoreError, match="has no saliency/"):
        step_record(store_of_runs, plan(), plan().steps[0])


def test_places_and_versions_are_known(store_of_runs: Store) -> None:
    assert metrics_file("r") == "runs/r/metrics.json"
    assert report_file("r") == "runs/r/report/index.html"
    save_run(store_of_runs, plan(), {})
    told = store_of_runs.read_json(run_file(plan().run_id))["versions"]
    assert {"python", "torch", "pyarrow", "onnxruntime", "scikit-image"} <= set(told)
