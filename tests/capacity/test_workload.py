"""What is left of a run: rows, parts and bytes, by listings alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dcsp.capacity.pace import EVALUATION, INGEST, Pace
from dcsp.capacity.workload import Work, draft_snapshot, largest_part, work_of
from dcsp.corpus.listing import list_corpus
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store
from dcsp.tables.layout import (
    CARD_FILE,
    COMPLETE_FILE,
    CORPUS_DIRECTORY,
    MODEL_FILE,
    metrics_file,
    part_file,
)
from dcsp.tables.snapshot import Snapshot
from tests.run.test_overview import config, ingest


class Listed(Store):
    """A store that counts what is asked of it."""

    listings = 0

    def sizes(self, directory: str) -> dict[str, int]:
        self.listings += 1
        return super().sizes(directory)

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        raise AssertionError(f"{name} is read")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return ingest(config(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path, snapshot: Snapshot) -> Plan:
    return build_plan(config(tmp_path / "store"), snapshot)


def works(plan: Plan, paces: dict[str, Pace] | None = None) -> dict[str, Work]:
    store = Listed(plan.config.store)
    found = {work.title: work for work in work_of(store, plan, paces or {})}
    assert store.listings <= len(plan.steps) + 1, "one listing a table, and one of the corpus"
    return found


def size(plan: Plan, splits: Sequence[str]) -> int:
    sizes = Store(plan.config.store).sizes(CORPUS_DIRECTORY)
    return sum(sizes[f"{part.name}.parquet"] for part in plan.snapshot.of(splits))


def test_all_is_left_of_a_new_run(plan: Plan) -> None:
    found = works(plan)
    assert list(found) == [INGEST, *(step.title for step in plan), EVALUATION]
    assert found[INGEST] == Work(INGEST, "tasks", 3, 0, 0)
    train, everything = size(plan, ["train"]), size(plan, ["train", "val"])
    assert found["saliency"] == Work("saliency", "actors", 3, 3, 5, bytes_in=everything)
    assert found["fcan"] == Work("fcan", "training", 2, 2, 15, 5, bytes_in=train / 4 * 15)
    assert found["predictions"] == Work("predictions", "actors", 3, 3, 5)  # they read saliency
    assert found[EVALUATION] == Work(EVALUATION, "tasks", 3, 3, 5)


def test_bytes_of_a_table_that_is_not_there_yet_are_what_its_pace_says(plan: Plan) -> None:
    assert works(plan)["cues_phase0"].bytes_in is None
    pace = Pace("probe", 0, 0, 0, bytes=100)
    expected = size(plan, ["train"]) + 4 * 100
    assert works(plan, {"saliency": pace})["cues_phase0"].bytes_in == expected


def test_what_is_done_is_not_left(plan: Plan) -> None:
    store = Store(plan.config.store)
    first, second = plan.snapshot.of(["train"])
    for title in ("saliency", "fcan"):
        directory = plan.step(title).stage.key.directory
        store.write_bytes(part_file(directory, first.name), b"x" * 10)
        for file in (MODEL_FILE, CARD_FILE, COMPLETE_FILE):
            store.write_json(f"{directory}/{file}", {})
    found = works(plan, {"saliency": Pace("probe", 0, 0, 0, bytes=100)})
    saliency = found["saliency"]
    assert (saliency.parts, saliency.parts_left, saliency.rows_left) == (3, 2, 3)
    left = store.sizes(CORPUS_DIRECTORY)[f"{second.name}.parquet"]
    assert saliency.bytes_in == left + size(plan, ["val"])
    assert found["cues_phase0"].bytes_in == size(plan, ["train"]) + 10 + 2 * 100
    assert found["fcan"] == Work("fcan", "training", 2, 0, 0)
    store.write_json(metrics_file(plan.run_id), {})
    assert works(plan)[EVALUATION] == Work(EVALUATION, "tasks", 3, 0, 0)


def test_before_ingest_the_listing_is_what_is_left(tmp_path: Path, snapshot: Snapshot) -> None:
    settings = config(tmp_path / "other")
    listing = list_corpus(Store(settings.store), settings.corpus, settings.seed)
    draft = draft_snapshot(listing, settings.corpus.classes)
    assert [(p.split, p.rows) for p in draft.parts] == [(p.split, p.rows) for p in snapshot.parts]
    store = Store(settings.store)
    found = work_of(store, build_plan(settings, draft), {})
    assert found[0] == Work(INGEST, "tasks", 3, 3, 5)
    assert found[1] == Work("saliency", "actors", 3, 3, 5)
    assert found[-1] == Work(EVALUATION, "tasks", 3, 3, 5)
    assert not (tmp_path / "other").exists()


def test_images_that_the_store_holds_by_other_settings_are_not_work_to_do(plan: Plan) -> None:
    """Their saliency moves with them; what depends on tags or networks is left."""
    store, settings = Store(plan.config.store), plan.config
    saliency = plan.step("saliency").stage.key.directory
    for part in plan.snapshot.parts:
        store.write_bytes(part_file(saliency, part.name), b"x")
    corpus = settings.corpus.model_copy(update={"distractors": ("kraken",)})
    other = settings.model_copy(update={"corpus": corpus})
    listing = list_corpus(store, corpus, settings.seed)
    draft = draft_snapshot(listing, corpus.learned)
    found = {work.title: work for work in work_of(store, build_plan(other, draft), {})}
    assert found[INGEST].rows_left == found["saliency"].rows_left == 0
    assert found["cues_phase0"].rows_left == draft.rows(["train"])


def test_the_largest_part_is_that_of_the_snapshot(plan: Plan) -> None:
    store = Store(plan.config.store)
    store.write_bytes(part_file(CORPUS_DIRECTORY, "of another snapshot"), b"x" * 10**6)
    largest = largest_part(store, plan.snapshot)
    assert 0 < largest < 10**6
    assert largest <= size(plan, ["train", "val"]) <= 3 * largest
