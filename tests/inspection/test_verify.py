"""A store that is whole passes; every way to break it is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dcsp.exports.labels import Labels
from dcsp.inspection.inventory import find_run
from dcsp.inspection.verify import parts_to_read, verify_store
from dcsp.stages.libraries import marked
from dcsp.stages.parts import begin_stage
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import RULES_SINCE
from tests.store_fixture import CUES_KEY, LABELS, PARTS, build_store

CUES_PART = part_file(CUES_KEY.directory, PARTS["train"])
CORPUS_PART = part_file(CORPUS_DIRECTORY, PARTS["train"])
TRUTH_PART = f"truth/{PARTS['val']}.parquet"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(tmp_path)


def problems(store: Store) -> str:
    return "\n".join(verify_store(store).problems)


def test_a_whole_store_has_no_problem(store: Store) -> None:
    seen: list[None] = []
    found = verify_store(store, on_part=lambda: seen.append(None))
    assert found.problems == []
    assert (found.parts, found.rows, found.checkpoints) == (11, 28, 1)
    assert len(seen) == found.parts == parts_to_read(store)


def test_predictions_of_earlier_versions_are_whole_without_their_rules(tmp_path: Path) -> None:
    store = build_store(tmp_path, RULES_SINCE - 1)
    for directory in store.list("predictions"):
        store.remove(f"predictions/{directory}/statuses.json")  # parts have other sizes now
        for part in PARTS.values():
            file = part_file(f"predictions/{directory}", part)
            store.write_table(file, store.read_table(file).drop_columns(["rule", "label_network"]))
    assert verify_store(store).problems == []
    run = find_run(store, "demo-2222")
    for kind in ("published", "network"):
        labels = Labels(store, run, kind)
        table = labels.read(labels.snapshot.of(labels.splits)[0])
        assert table["label"][0].as_py() == encode_labels(LABELS)


def test_parts_by_several_versions_of_a_library_are_told_and_are_no_fault(store: Store) -> None:
    key = f"predictions/{store.list('predictions')[0]}"
    for part, version in zip(PARTS.values(), ("2.6", "2.7"), strict=True):
        file = part_file(key, part)
        store.write_table(file, marked(store.read_table(file), [f"torch {version}", "numpy 2.1"]))
    store.remove(f"{key}/statuses.json")  # parts have other sizes now
    found = verify_store(store)
    assert found.problems == []
    (line,) = (note for note in found.notes if "torch" in note)
    assert line.startswith(f"{key}: 1 part by torch 2.6, 1 by torch 2.7: nothing is damaged")


def end_training(store: Store, seed: int, **told: Any) -> str:
    """A checkpoint like that of the store, whose mark tells something more."""
    (like, *_) = store.list("checkpoints")
    key = StageKey("joint_phase0", 1, settings={"steps": 40}, seed=seed, home="checkpoints")
    begin_stage(store, key)
    for file in ("model.json", "history.json", "complete.json"):
        tree = store.read_json(f"checkpoints/{like}/{file}")
        tree = tree | told if file == "complete.json" else tree
        store.write_json(f"{key.directory}/{file}", tree)
    store.write_bytes(f"{key.directory}/model.safetensors", b"weights")
    return key.directory


def test_a_training_that_went_on_by_another_version_is_told(store: Store) -> None:
    end_training(store, 1, libraries=[["torch 2.7"]])
    directory = end_training(store, 2, libraries=[["torch 2.6"], ["torch 2.7"]])
    found = verify_store(store)
    assert found.problems == []
    (line,) = (note for note in found.notes if "torch" in note)
    assert line.startswith(f"{directory}: 1 start by torch 2.6, 1 by torch 2.7: ")


def test_trainings_from_other_weights_of_one_name_are_told(store: Store) -> None:
    """A library fetches them by itself, and what it fetches may be replaced."""
    end_training(store, 1, backbone="timm:tiny ab")
    end_training(store, 2, backbone="timm:other ef")
    assert not [note for note in verify_store(store).notes if "timm" in note]
    end_training(store, 3, backbone="timm:tiny cd")
    (line,) = (note for note in verify_store(store).notes if "timm" in note)
    assert line.startswith("checkpoints: 1 training by timm:tiny ab, 1 by timm:tiny cd: ")


def rename(store: Store, name: str, column: str, values: list[str | None]) -> None:
    table = store.read_table(name)
    index = table.column_names.index(column)
    field = table.schema.field(column)
    store.write_table(name, table.set_column(index, field, pa.array(values, field.type)))


def change_manifest(store: Store) -> None:
    scope = digest([PARTS["train"]])
    name = f"{CUES_KEY.directory}/complete-{scope}.json"
    store.write_json(name, store.read_json(name) | {"rows": {"ok": 3, "error": 0}})


def add_manifest(store: Store) -> None:
    store.write_json(
        f"{CUES_KEY.directory}/complete-zz.json", {"snapshot": "zz", "rows": {"ok": 1}}
    )


def tear(name: str) -> Callable[[Store], None]:
    return lambda store: store.write_bytes(name, store.read_bytes(name)[:-20])


BREAKS: dict[str, tuple[Callable[[Store], None], str]] = {
    "torn derived part": (tear(CUES_PART), "torn or no Parquet"),
    "torn corpus part": (tear(CORPUS_PART), "torn or no Parquet"),
    "torn truth": (tear(TRUTH_PART), "torn or no Parquet"),
    "missing corpus part": (lambda s: s.remove(CORPUS_PART), f"no {CORPUS_PART}"),
    "missing truth": (lambda s: s.remove(TRUTH_PART), f"no {TRUTH_PART}"),
    "missing derived part": (lambda s: s.remove(CUES_PART), "lacks the part aa11"),
    "other rows": (
        lambda s: rename(s, CUES_PART, "image_id", ["one", "three", "sub/two"]),
        "does not have the rows of its corpus part",
    ),
    "unknown status": (
        lambda s: rename(s, CUES_PART, "status", ["ok", "fine", "error"]),
        "unknown status 'fine'",
    ),
    "changed status": (
        lambda s: rename(s, CUES_PART, "status", ["ok", "skipped", "error"]),
        "1 error, 1 ok, 1 skipped, but its manifest says 1 error, 2 ok",
    ),
    "other digest": (
        lambda s: rename(s, CORPUS_PART, "sha256", ["0" * 64] * 3),
        f"The bytes of one in {CORPUS_PART} have another digest",
    ),
    "manifest of other counts": (change_manifest, "manifest says 0 error, 3 ok"),
    "manifest of another corpus": (add_manifest, "complete for a corpus that is not there"),
    "stray part": (
        lambda s: s.write_table(
            f"{CUES_KEY.directory}/cc33.parquet", s.read_table(CUES_PART)
        ),
        "cc33.parquet belongs to no part",
    ),
    "temporary file": (
        lambda s: s.write_bytes(f"{CUES_KEY.directory}/.tmp-1f", b"half"),
        "/.tmp-1f is a temporary file",
    ),
    "unknown current run": (
        lambda s: s.write_bytes("CURRENT", b"gone\n"), "CURRENT names a run that is not there"
    ),
    "unfinished current run": (
        lambda s: s.remove("runs/demo-2222/metrics.json"), "or has not ended"
    ),
    "lost table of a run": (
        lambda s: s.remove(CUES_KEY.directory), "refers to cues/"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_every_fault_is_named(store: Store, name: str) -> None:
    damage, message = BREAKS[name]
    damage(store)
    assert message in problems(store)


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize("is_published", [True, False])
def test_what_to_do_about_a_run_without_a_file_can_be_done(
    store: Store, name: str, is_published: bool
) -> None:
    """`dcsp gc` refuses a store whose published run does not say what it needs."""
    if not is_published:
        store.write_bytes("CURRENT", b"demo-1111\n")
    store.remove(f"runs/demo-2222/{name}")
    (told,) = [t for t in verify_store(store).problems if f"runs/demo-2222/{name} is gone" in t]
    assert ("dcsp publish STORE RUN" in told) == is_published
    assert ("dcsp gc" in told) != is_published


def test_a_checkpoint_of_another_size_is_named(store: Store) -> None:
    directory = f"checkpoints/{store.list('checkpoints')[0]}"
    store.write_bytes(f"{directory}/model.safetensors", b"half")
    assert "has 4 bytes, its mark says 7" in problems(store)


def test_a_table_that_is_still_being_made_is_no_fault(store: Store) -> None:
    key = StageKey("cues", 1, settings={"gamma_low": 0.5})
    begin_stage(store, key)
    store.write_table(part_file(key.directory, PARTS["train"]), store.read_table(CUES_PART))
    assert problems(store) == ""


def test_a_table_of_a_run_that_is_no_longer_marked_as_complete_is_named(store: Store) -> None:
    store.remove(f"{CUES_KEY.directory}/complete-{digest([PARTS['train']])}.json")
    assert f"has used {CUES_KEY.directory}, which is not marked as complete" in problems(store)
