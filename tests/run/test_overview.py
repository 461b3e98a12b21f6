"""A dry run tells what is done and what would run, and leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcsp.config import RunConfig
from dcsp.config.file import parse_config
from dcsp.corpus.listing import list_corpus
from dcsp.run.overview import describe, stages_text
from dcsp.run.plan import build_plan
from dcsp.stages.parts import begin_stage
from dcsp.store.store import Store
from dcsp.tables.layout import manifest_file, part_file
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import ingest_here, one_by_one
from tests.corpus.tars import sample, write_tar


def config(store: Path, **corpus: Any) -> RunConfig:
    scenes = {
        "kind": "scenes",
        "classes": ["ball", "crate", "starfish", "mushroom", "fish", "cactus"],
        "part_rows": 2,
        "scenes": {"train": 4, "val": 1, "height": 48, "width": 48},
    }
    return parse_config(
        {
            "store": str(store),
            "corpus": scenes | corpus,
            "network": {"backbone": "resnet18", "weights": "random"},
            "fcan": {"steps": 5, "batch": 3},
        }
    )


def ingest(settings: RunConfig) -> Snapshot:
    listing = list_corpus(Store(settings.store), settings.corpus, settings.seed, spread=one_by_one)
    snapshot = ingest_here(listing).snapshot
    listing.remember(snapshot, 1.0)
    return snapshot


def lines(text: str) -> dict[str, list[str]]:
    """Title → the words of its line."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_before_ingest_only_saliency_has_a_known_fingerprint(tmp_path: Path) -> None:
    settings = config(tmp_path / "store")
    found = lines(describe(settings))
    assert list(found)[:3] == ["stage", "ingest", "saliency"]
    assert (
        found["ingest"][:2] == found["fcan"][:2] == found["predictions"][:2] == ["after", "ingest"]
    )
    snapshot = ingest(config(tmp_path / "other"))
    saliency = build_plan(settings, snapshot).step("saliency").stage.key.fingerprint
    assert found["saliency"][0] == saliency
    assert not (tmp_path / "store").exists()


def test_a_look_opens_no_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars/a.tar", sample("x", ["ball"]))
    settings = config(tmp_path / "store", kind="webdataset", root=str(tmp_path / "tars"))
    assert "note: The corpus has 1 new or changed shard(s): ingest lists" in describe(settings)
    assert not (tmp_path / "store").exists()
    snapshot = ingest(settings)
    assert lines(describe(settings))["ingest"] == [snapshot.fingerprint, "1", "done"]


def test_after_ingest_every_stage_tells_what_is_left(tmp_path: Path) -> None:
    settings = config(tmp_path / "store")
    snapshot = ingest(settings)
    plan = build_plan(settings, snapshot)
    found = lines(describe(settings))
    assert list(found) == ["stage", "ingest", *(step.title for step in plan), "run"]
    assert found["ingest"] == [snapshot.fingerprint, "5", "done"]
    assert " ".join(found["saliency"][1:]) == "5 will run, 5 images to go"
    assert " ".join(found["fcan"][1:]) == "4 will run, 15 images to go"
    assert " ".join(found["predictions"][1:]) == "5 will run, 5 images to go"
    assert found["run"][0] == plan.run_id
    for step in plan:
        assert found[step.title][0] == step.stage.key.fingerprint


def test_progress_of_a_stage_shows(tmp_path: Path) -> None:
    settings = config(tmp_path / "store")
    store = Store(settings.store)
    snapshot = ingest(settings)
    step = build_plan(settings, snapshot).step("saliency")
    parts = step.parts(snapshot)
    begin_stage(store, step.stage.key)
    store.write_bytes(part_file(step.stage.key.directory, parts[0].name), b"x")
    assert " ".join(lines(describe(settings))["saliency"][2:]) == "will run, 3 images to go"
    for part in parts[1:]:
        store.write_bytes(part_file(step.stage.key.directory, part.name), b"x")
    store.write_json(manifest_file(step.stage.key, step.scope(snapshot)), {})
    assert lines(stages_text(store, settings, snapshot))["saliency"][1:] == ["5", "done"]


def test_a_source_that_is_not_there_is_a_note(tmp_path: Path) -> None:
    text = describe(config(tmp_path / "s", kind="folder", root=str(tmp_path / "nowhere")))
    *table, note = text.splitlines()
    assert note.startswith("note: ") and "nowhere" in note
    assert table[1].startswith("ingest")
