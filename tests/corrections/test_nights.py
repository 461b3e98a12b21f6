"""Corrections over many nights: published as they are, learned from, and never relabelled away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.config.file import parse_config
from dcsp.evaluation.run import Evaluator
from dcsp.inspection.images import find_image
from dcsp.inspection.inventory import find_run
from dcsp.inspection.verify import verify_store
from dcsp.report.collect import collect
from dcsp.report.gallery import gallery
from dcsp.report.sheet import read_sheet
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import load_run
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.layout import metrics_file, part_file
from dcsp.training.stream import PartSlice, Rank
from dcsp.upkeep.erasure import erase
from jobs._chain import Chain
from tests import chain
from tests.corrections.drawings import cvat_file, scribble
from tests.report.pages import Reader
from tests.threads import torch_threads
from tests.upkeep.conftest import night, write_folder

CORRECTED = {f"photo_{letter}": scribble(ord(letter)) for letter in "abcely"}
"""photo_a to photo_c are learned from, photo_e and photo_l measured by; photo_y is held out."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def settings(place: Path, **blocks: Any) -> RunConfig:
    corpus = {
        "kind": "folder",
        "root": str(place / "photographs"),
        "classes": ["cat", "dog"],
        "part_rows": 3,
    }
    detector = chain.write_detector(place / "brightness.onnx")
    tree = chain.chain_config(place / "store", detector, corpus=corpus).model_dump(mode="json")
    tree["cues"]["compare"] = {}
    tree["report"]["gallery"] = 2
    tree["joint"]["steps"] = tree["fcan"]["steps"] = 1
    return parse_config(tree | {"corrections": str(place / "corrections")} | blocks)


def write_corrections(place: Path, *names: str) -> None:
    folder = place / "corrections"
    folder.mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("background\ncat\ndog\n")
    for name in names:
        (folder / f"{name}.png").write_bytes(encode_labels(CORRECTED[name]))


def plan_of(config: RunConfig) -> Plan:
    return load_run(Store(config.store))[1]


def published(config: RunConfig) -> dict[str, dict[str, Any]]:
    plan = plan_of(config)
    return chain.table(plan, "predictions", ("train", "val"))


def assert_kept(
    config: RunConfig, expected: dict[str, NDArray[np.uint8]] = CORRECTED, least: int = 5
) -> None:
    """What is published of corrected images is the correction, and is trusted."""
    rows, plan = published(config), plan_of(config)
    trust = chain.table(plan, "trust", ("train", "val"))
    there = [name for name in expected if name in rows]
    assert len(there) >= least
    for name in there:
        assert rows[name]["rule"] == "corrected", name
        assert (decode_labels(rows[name]["label"]) == expected[name]).all(), name
        assert trust[name]["score"] == 1.0
        assert rows[name]["uncorrected"]["rule"] != "corrected"
    others = rows.keys() - expected.keys()
    assert others
    assert all(rows[name]["rule"] != "corrected" for name in others)
    assert all(rows[name]["uncorrected"] is None for name in others)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A night with corrections."""
    place = tmp_path_factory.mktemp("first")
    write_folder(place / "photographs", "abcdelyz")
    write_corrections(place, *CORRECTED)
    config = settings(place)
    night(config)
    return config


@pytest.fixture
def corrected(first: RunConfig, tmp_path: Path) -> RunConfig:
    """A copy whose store, images and corrections a test may change."""
    place = Path(first.store).parent
    shutil.copytree(place / "store", tmp_path / "store")
    shutil.copytree(place / "corrections", tmp_path / "corrections")
    moved = {"store": str(tmp_path / "store"), "corrections": str(tmp_path / "corrections")}
    return parse_config(first.model_dump(mode="json") | moved)


def test_corrections_survive_ten_nights_of_growth(tmp_path: Path) -> None:
    names = "abcdeyz"
    write_folder(tmp_path / "photographs", names)
    adapt = {"adapt": {"rounds": 0}}
    cues = settings(tmp_path).cues.model_dump(mode="json") | adapt
    before = night(settings(tmp_path, cues=cues, corrections=[]))
    write_corrections(tmp_path, *CORRECTED)
    runs = set()
    for number in range(10):
        retrain = "every" if number in (0, 5) else "never"
        config = settings(tmp_path, cues=cues, retrain=retrain)
        runs.add(night(config))
        assert_kept(config)
        names += "lfghijkmno"[number]  # photo_l comes after its correction
        write_folder(tmp_path / "photographs", names)
    assert len(runs) == 10 and before not in runs
    assert "photo_l" in published(config)
    assert verify_store(Store(config.store)).problems == []


def test_corrections_survive_a_change_of_classes(corrected: RunConfig) -> None:
    tree = corrected.model_dump(mode="json")
    tree["cues"]["adapt"]["rounds"] = 0
    corpus = tree["corpus"]
    corpus |= {"classes": ["dog", "cow"], "distractors": ["cat"], "max_rejected_share": 1.0}
    config = parse_config(tree)
    night(config)
    table = np.arange(256, dtype=np.uint8)
    table[[1, 2]] = [0, 1]  # dogs have another id; cats are learned, and are background
    assert_kept(config, {name: table[label] for name, label in CORRECTED.items()})
    corpus |= {"classes": ["cow", "dog"], "distractors": []}  # what is a cat alone is rejected
    config = parse_config(tree)
    night(config)
    table[[1, 2]] = [255, 2]  # cats are nothing that anybody asks for
    assert_kept(config, {name: table[label] for name, label in CORRECTED.items()}, least=2)


def test_networks_learn_from_half_of_them_in_the_place_of_cues(first: RunConfig) -> None:
    store, plan = Store(first.store), plan_of(first)
    correction = plan.of(Role.CORRECTIONS)[0].stage.key
    for step in plan.trainings:
        reads = step.stage.key.inputs.get("corrections")
        assert reads == (correction.fingerprint if step.role is Role.JOINT else None)
    for joint, mined in zip(plan.of(Role.JOINT), plan.cue_steps, strict=True):
        cues, seen = chain.table(plan, mined.title), shown_cues(store, plan, joint.stage)
        assert seen.keys() == {f"photo_{n}" for n in "abcdel"}
        for name, cue in seen.items():
            is_pinned = name in ("photo_a", "photo_b", "photo_c")
            expected = CORRECTED[name] if is_pinned else decode_labels(cues[name]["label"])
            assert (cue == expected).all(), name
            assert (cue != decode_labels(cues[name]["label"])).any() == is_pinned


def shown_cues(store: Store, plan: Plan, stage: Any) -> dict[str, NDArray[np.uint8]]:
    """What the training's samples have as cues, before they are cut."""
    shown: dict[str, NDArray[np.uint8]] = {}

    def keep(rows: pa.Table, *_: Any) -> dict[str, Any]:
        for row in rows.to_pylist():
            if row["cue"]:
                shown[row["image_id"]] = decode_labels(row["cue"])
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcsp.training.stage.make_samples", keep)
        parts = plan.snapshot.of(["train"])
        for part in parts:
            share = stage.pieces([part], Rank(), 0)[0].share
            whole = PartSlice(0, part.name, 0, 0, part.live, 0, share._replace(first=0, stop=99))
            stage.read(store, whole._replace(share=whole.share._replace(batch=99)))
    return shown


def test_untagged_images_are_learned_from_once_they_are_corrected(tmp_path: Path) -> None:
    write_folder(tmp_path / "photographs", "abcdelyz")
    tags = tmp_path / "photographs/tags.csv"
    tags.write_text(tags.read_text().replace("photo_a.png,cat", "photo_a.png,"))
    write_corrections(tmp_path, *CORRECTED)
    made = Chain(settings(tmp_path))
    plan = made.plan().until("cues_phase0")
    for step in plan:
        made.run(plan, step)
    assert chain.table(plan, "cues_phase0")["photo_a"]["status"] == "skipped"
    joint = build_plan(made.config, plan.snapshot).of(Role.JOINT)[0].stage
    shown = shown_cues(made.store, plan, joint)
    assert (shown["photo_a"] == CORRECTED["photo_a"]).all()


def test_what_is_published_is_the_correction(first: RunConfig) -> None:
    assert_kept(first)


def test_labels_are_measured_by_the_other_half(first: RunConfig) -> None:
    store, plan = Store(first.store), plan_of(first)
    found = store.read_json(metrics_file(plan.run_id))["corrections"]
    assert found["cues"]["images"] == 2  # photo_e, photo_l
    assert found["network"]["images"] == found["labels"]["images"] == 3  # and photo_y
    rows = published(first)
    right = total = 0
    for name in ("photo_e", "photo_l", "photo_y"):
        label, truth = decode_labels(rows[name]["uncorrected"]["label"]), CORRECTED[name]
        right += int(((label == truth) & (truth != 255)).sum())
        total += int((truth != 255).sum())
    assert found["labels"]["accuracy"] == pytest.approx(100 * right / total, abs=1e-3)


def test_a_part_that_nothing_is_measured_in_is_not_read(
    corrected: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plan = Store(corrected.store), plan_of(corrected)
    directory = plan.of(Role.CORRECTIONS)[0].stage.key.directory
    train, *others = (part_file(directory, part.name) for part in plan.snapshot.parts)
    table = store.read_table(train)
    at = table.column_names.index("measure")
    nulls = pa.nulls(table.num_rows, pa.binary())
    store.write_table(train, table.set_column(at, table.schema.field(at), nulls))
    read: dict[str, Any] = {}

    def note(self: Store, name: str, columns: Any = None) -> pa.Table:
        read[name.partition("/")[0]] = columns
        return read_table(self, name, columns)

    read_table = Store.read_table
    monkeypatch.setattr(Store, "read_table", note)
    for part in plan.snapshot.parts:
        read.clear()
        found = Evaluator(store, plan)(part)
        assert "train" not in read["corrections"]
        is_measured = part_file(directory, part.name) in others
        assert bool(found.qualities) == is_measured == ("predictions" in read)


def test_the_report_tells_which_labels_a_person_corrected(corrected: RunConfig) -> None:
    store, rows = Store(corrected.store), published(corrected)
    report = collect(store, plan_of(corrected))
    told = {card.image_id for card in report.gallery if card.is_corrected}
    assert len(report.gallery) == len(rows)
    assert told == {name for name in CORRECTED if name in rows} != set()
    text = Reader(gallery(report.gallery, report.classes)).text
    assert text.count("trust 100.0corrected by a person") == len(told)
    assert "only corrected" in text
    run = find_run(store, None)
    for name, row in rows.items():
        panels = read_sheet(store, run.record, *find_image(store, run, name)).panels
        title = "corrected by a person" if name in told else f"by {row['rule']}"
        assert f"published, {title}" in panels


def test_a_run_means_the_corrections_that_lay_there(corrected: RunConfig, tmp_path: Path) -> None:
    run = plan_of(corrected).run_id
    assert night(corrected) == run
    (tmp_path / "corrections/photo_d.png").write_bytes(encode_labels(scribble(0)))
    assert plan_of(corrected).run_id == run  # by its digests, whatever lies there now
    assert night(corrected) != run
    rows = published(corrected)
    assert (decode_labels(rows["photo_d"]["label"]) == scribble(0)).all()


def test_other_kinds_of_files_do_the_same(corrected: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "more.xml").write_text(cvat_file(scribble(9), "photo_d.png"))
    both = [str(tmp_path / "corrections"), str(tmp_path / "more.xml")]
    config = parse_config(corrected.model_dump(mode="json") | {"corrections": both})
    night(config)
    assert_kept(config, CORRECTED | {"photo_d": scribble(9)})


def test_an_erased_image_is_in_no_table_of_corrections(corrected: RunConfig) -> None:
    store = Store(corrected.store)
    erase(store, ["photo_a"], lambda: None)
    plan = plan_of(corrected)
    directory = plan.of(Role.CORRECTIONS)[0].stage.key.directory
    for part in plan.snapshot.parts:
        for row in store.read_table(part_file(directory, part.name)).to_pylist():
            assert row["image_id"] != "photo_a"
            assert row["image_id"] or not (row["train"] or row["measure"])
    assert verify_store(store).problems == []
