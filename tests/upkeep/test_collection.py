"""What is removed is what no kept run needs; what is kept is as whole as before."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.errors import StoreError
from dcsp.inspection.verify import verify_store
from dcsp.run.record import load_run
from dcsp.store.store import Store
from dcsp.store.sweep import remove_files
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import RESUMABLE, STAGE_FILE, current_run, run_file, stage_directories
from dcsp.tables.snapshot import Snapshot
from dcsp.upkeep import collection
from dcsp.upkeep.collection import collect, kind_of, remove
from jobs._chain import Chain
from tests.upkeep.conftest import Nights

OLD = time.time() - 30 * collection.DAY


def nobody() -> None:
    """Nobody takes the lease."""


def dcsp(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def aged(store: Store, *starts: str, written: float = OLD) -> None:
    """Make files look as old as that."""
    for name in store.files():
        if name.startswith(starts or ("",)):
            os.utime(store.location(name), (written, written))


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read_bytes(name) for name in store.files()}


def load_snapshot_of(nights: Nights) -> Snapshot:
    return Chain(nights.configs[1]).ingest()


def needed(store: Store, run_id: str) -> Iterator[str]:
    yield from (step.stage.key.directory for step in load_run(store, run_id)[1])


def test_it_tells_and_removes_nothing_unless_it_is_told_to(nights: Nights) -> None:
    aged(nights.store)
    before = contents(nights.store)
    told = dcsp("gc", nights.store.url, "--keep", 1)
    assert contents(nights.store) == before
    assert "published" in told and "--delete removes them" in told
    assert "goes" in next(line for line in told.splitlines() if nights.runs[0] in line)


def test_the_last_runs_stay_with_all_they_need(nights: Nights) -> None:
    store = nights.store
    aged(store)
    before = contents(store)
    dcsp("gc", store.url, "--keep", 1, "--delete")
    assert store.list("runs") == [nights.runs[1]]
    assert set(needed(store, nights.runs[1])) <= set(stage_directories(store))
    assert verify_store(store).problems == []
    assert "published" in dcsp("show", store.url)
    gone = {kind_of(name) for name in before if name not in store.files()}
    assert gone >= {"runs", "checkpoints", "predictions", "cues", "corpus"}
    snapshot = Chain(nights.configs[1]).ingest()
    run = load_run(store, nights.runs[1])[0]
    assert snapshot.fingerprint == run["snapshot"], "the next ingest reads nothing anew"


def test_the_published_run_stays_however_old_it_is(nights: Nights) -> None:
    aged(nights.store)
    dcsp("publish", nights.store.url, nights.runs[0])
    dcsp("gc", nights.store.url, "--keep", 1, "--delete")
    assert nights.store.list("runs") == sorted(nights.runs)
    assert verify_store(nights.store).problems == []


def test_the_history_stays_and_tells_which_of_its_runs_are_gone(nights: Nights) -> None:
    store = nights.store
    events = {f"history/{name}" for name in store.list("history")}
    aged(store)
    dcsp("gc", store.url, "--keep", 1, "--days", 0, "--delete")
    assert events <= set(store.files()) and verify_store(store).problems == []
    row = next(r for r in dcsp("history", store.url).splitlines() if nights.runs[0] in r)
    assert " gone " in row
    told = CliRunner().invoke(app, ["rollback", store.url])
    assert told.exit_code == 2 and f"run {nights.runs[0]} cannot be published" in told.output
    assert current_run(store) == nights.runs[1]


def test_what_was_written_of_late_stays(nights: Nights) -> None:
    assert collect(nights.store, 1, 7).goes == []
    aged(nights.store)
    key = {"stage": "fcan", "inputs": {}}
    young = f"checkpoints/{digest(key)}"
    nights.store.write_json(f"{young}/{STAGE_FILE}", key)
    state = f"{RESUMABLE}/{digest(key)}/here.pt"
    stale = f"{RESUMABLE}/{digest('another')}/here.pt"
    for name in (state, stale):
        nights.store.write_bytes(name, b"a state")
    aged(nights.store, stale)
    goes = collect(nights.store, 3, 7).goes
    assert goes == [stale]
    assert {state, f"{young}/{STAGE_FILE}"} <= set(collect(nights.store, 3, 0).goes)


def test_a_young_table_of_no_run_stays_with_what_it_was_made_of(nights: Nights) -> None:
    store = nights.store
    dcsp("publish", store.url, nights.runs[1])
    aged(store)
    first = [
        d for d in needed(store, nights.runs[0]) if d not in set(needed(store, nights.runs[1]))
    ]
    late = next(d for d in first if d.startswith("predictions/"))
    aged(store, late, written=time.time())
    goes = collect(store, 1, 7).goes
    assert not [name for name in goes if name.startswith(f"{late}/") and "complete" not in name]
    inputs = set(store.read_json(f"{late}/{STAGE_FILE}")["inputs"].values())
    kept = [d for d in first if d.rpartition("/")[2] in inputs]
    assert kept and not [n for n in goes if n.startswith(tuple(f"{d}/model" for d in kept))]


def test_a_young_training_of_no_run_stays_with_the_corpus_that_it_learns_from(
    nights: Nights,
) -> None:
    store = nights.store
    fcan = load_run(store, nights.runs[1])[1].step("fcan").stage.key
    for directory in ("runs", "CURRENT"):
        store.remove(directory)
    state = f"{RESUMABLE}/{fcan.fingerprint}/state.safetensors"
    store.write_bytes(state, b"of a training that was killed")
    key = store.read_json(f"{fcan.directory}/{STAGE_FILE}")
    key["inputs"] = {"corpus": key["inputs"]["corpus"]}  # as without a loss on saliency
    store.write_json(f"{fcan.directory}/{STAGE_FILE}", {n: key[n] for n in key if n != "checksum"})
    aged(store)
    aged(store, state, written=time.time())
    goes = collect(store, 3, 7).goes
    snapshot = load_snapshot_of(nights)
    assert not {f"corpus/parts/{part.name}.parquet" for part in snapshot.parts} & set(goes)


def test_a_published_run_that_is_not_told_of_stops_it(nights: Nights) -> None:
    nights.store.remove(run_file(nights.runs[1]))
    aged(nights.store)
    before = contents(nights.store)
    told = dcsp("gc", nights.store.url, "--days", 0, "--delete", code=2)
    assert f"The published run {nights.runs[1]} has no run.json" in told
    assert contents(nights.store) == before


def test_uploads_that_an_account_may_not_see_do_not_stop_it(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Store) -> None:
        raise StoreError("Cannot list the uploads of the store (Access Denied).")

    monkeypatch.setattr(collection, "uploads", refuse)
    assert "uploads that did not end were not looked for: Cannot list" in dcsp(
        "gc", nights.store.url, "--delete"
    )


def test_files_of_others_are_not_touched(nights: Nights) -> None:
    store = nights.store
    strange = ["notes.txt", "corpus/notes.txt", "mine/a/b.parquet", "truth/x.txt"]
    strange += ["checkpoints/mine/model.safetensors", "runs/mine/notes/x.txt"]
    strange += ["runs/.DS_Store"]
    for name in strange:
        store.write_bytes(name, b"of somebody else")
    aged(store)
    dcsp("gc", store.url, "--keep", 1, "--days", 0, "--delete")
    assert set(strange) <= set(store.files())


def test_leftovers_of_killed_writers_are_swept(nights: Nights) -> None:
    store = nights.store
    for name in ("corpus/parts/.tmp-1", "cues/.tmp-2", ".tmp-3"):
        store.write_bytes(name, b"half of a file")
    Path(store.location("cues/empty")).mkdir()
    found = verify_store(store)
    assert sum("is a temporary file" in problem for problem in found.problems) == 3
    assert any("1 empty folder" in note for note in found.notes)
    told = dcsp("gc", store.url, "--delete")
    assert "removed: 1 empty folder" in told
    assert [name for name in store.files() if ".tmp-" in name] == [".tmp-3"], "may be a lease's"
    aged(store, ".tmp-3")
    dcsp("gc", store.url, "--delete")
    assert verify_store(store).problems == verify_store(store).notes == []


class Killed(BaseException):
    """In the place of SIGKILL."""


def test_killed_anywhere_and_done_again_it_leaves_what_one_collection_leaves(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(nights.store)
    origin = Path(nights.store.location(""))
    good = Store(shutil.copytree(origin, tmp_path / "good"))
    remove(good, collect(good, 1, 7), nobody)
    goes = collect(nights.store, 1, 7).goes
    for number in (0, 1, 2, 5, 8, 12, 20, len(goes) // 2, len(goes) - 1):
        store = Store(shutil.copytree(origin, tmp_path / f"killed-{number}"))
        left = [number]

        def some(at: Store, names: list[str], left: list[int] = left) -> None:
            remove_files(at, names[: left[0]])
            left[0] -= len(names)
            if left[0] < 0:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(collection, "remove_files", some)
            remove(store, collect(store, 1, 7), nobody)
        told = " ".join(verify_store(store).problems)
        assert not told or "dcsp gc STORE --delete" in told or "complete" in told, told
        assert current_run(store) == nights.runs[1]
        remove(store, collect(store, 1, 7), nobody)
        assert contents(store) == contents(good), number
        assert verify_store(store).problems == []
        shutil.rmtree(store.location(""))


def test_a_kept_run_whose_corpus_cannot_be_read_stops_it(nights: Nights) -> None:
    aged(nights.store)
    snapshot = load_run(nights.store, nights.runs[1])[0]["snapshot"]
    nights.store.write_bytes(f"corpus/{snapshot}.json", b"{")
    before = contents(nights.store)
    with pytest.raises(StoreError, match="not valid JSON"):
        collect(nights.store, 1, 7)
    assert contents(nights.store) == before


def test_it_works_in_a_bucket(nights: Nights, s3_store: Store) -> None:
    for name, data in contents(nights.store).items():
        s3_store.write_bytes(name, data)
    dcsp("gc", s3_store.url, "--keep", 1, "--days", 0, "--delete")
    aged(nights.store)
    dcsp("gc", nights.store.url, "--keep", 1, "--delete")
    assert contents(s3_store) == contents(nights.store)
