"""A probe runs every stage on a few images and leaves nothing behind."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from dcsp.capacity.pace import EVALUATION, INGEST
from dcsp.capacity.probe import Probe, Worker
from dcsp.capacity.sample import IMAGES, ListedSample, StoredSample
from dcsp.config import RunConfig
from dcsp.corpus.listing import list_corpus
from dcsp.run.plan import Plan, build_plan
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import Snapshot
from dcsp.training.stage import TrainStage
from tests.chain import chain_config, write_detector
from tests.jobs.running import states
from tests.run.test_overview import ingest


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return chain_config(tmp_path / "store", write_detector(tmp_path / "detector.onnx"))


@pytest.fixture
def snapshot(config: RunConfig) -> Snapshot:
    return ingest(config)


def plan_of(config: RunConfig, snapshot: Snapshot) -> Plan:
    return build_plan(config, snapshot)


def test_every_stage_gets_a_pace_and_the_store_stays_as_it_is(
    config: RunConfig, snapshot: Snapshot, tmp_path: Path
) -> None:
    plan = plan_of(config, snapshot)
    before = states(tmp_path)
    titles = frozenset(step.title for step in plan) | {EVALUATION}
    sample = StoredSample.of(Store(config.store), snapshot)
    threads = torch.get_num_threads()
    found = pickle.loads(pickle.dumps(Probe(config, titles)))(pickle.loads(pickle.dumps(sample)))
    assert found.trouble == "" and found.images == 6
    assert set(found.paces) == titles
    assert states(tmp_path) == before and torch.get_num_threads() == threads
    for step in plan:
        pace = found.paces[step.title]
        assert pace.source == "probe" and pace.model > 0 and pace.bytes > 0, step.title
        if not step.stage.learns:
            assert pace.memory is not None and pace.memory > 10**8
    first, second = (found.paces[f"joint_phase{n}"] for n in (0, 1))
    assert first == second, "the same settings are measured once"
    assert found.paces[EVALUATION].tasks > 0


def test_only_what_is_wanted_is_measured(config: RunConfig, snapshot: Snapshot) -> None:
    sample = StoredSample.of(Store(config.store), snapshot)
    found = Probe(config, frozenset({"cues_phase0"}))(sample)
    assert set(found.paces) == {"cues_phase0"}


def test_cues_by_self_tags_are_measured(config: RunConfig, snapshot: Snapshot) -> None:
    """Also where thresholds will be calibrated on a split that the sample has no image of."""
    selftags = {"use": "train", "calibrate": "val"}
    settings = RunConfig.model_validate(config.model_dump(mode="json") | {"selftags": selftags})
    titles = frozenset({"tag_scores", "selftags", "selfcues_phase0"})
    found = Probe(settings, titles)(StoredSample.of(Store(config.store), snapshot))
    assert found.trouble == "" and set(found.paces) == titles
    assert all(pace.model > 0 and pace.bytes > 0 for pace in found.paces.values())


def test_before_ingest_the_source_is_read(config: RunConfig, tmp_path: Path) -> None:
    listing = list_corpus(Store(config.store), config.corpus, config.seed)
    sample = ListedSample.of(listing, config.corpus.part_rows)
    assert {row.split for row in sample.rows} == {"train"}
    found = Probe(config, frozenset({INGEST, "saliency"}))(sample)
    assert set(found.paces) == {INGEST, "saliency"}
    assert found.paces[INGEST].tasks > 0 and found.paces[INGEST].bytes > 100
    assert not (tmp_path / "store").exists()


def test_a_sample_is_spread_over_the_first_parts(config: RunConfig, tmp_path: Path) -> None:
    scenes = config.corpus.scenes.model_copy(update={"train": 60})
    corpus = config.corpus.model_copy(update={"scenes": scenes, "part_rows": 10})
    settings = config.model_copy(update={"corpus": corpus})
    snapshot, store = ingest(settings), Store(settings.store)
    sample = StoredSample.of(store, snapshot)
    assert [part.rows for part in sample.parts] == [10, 10]
    part, pace = sample(Store(tmp_path / "scratch"))
    assert (part.rows, part.split, pace) == (IMAGES, "train", None)
    table = Store(tmp_path / "scratch").read_table(part_file(CORPUS_DIRECTORY, part.name))
    known = [
        image_id
        for source in sample.parts
        for image_id in store.read_table(part_file(CORPUS_DIRECTORY, source.name))[
            "image_id"
        ].to_pylist()
    ]
    chosen = [known.index(image_id) for image_id in table["image_id"].to_pylist()]
    assert chosen == sorted(chosen) and (chosen[0], chosen[-1]) == (0, 19)
    truth = Store(tmp_path / "scratch").read_table(str(part.truth))
    assert truth["image_id"].equals(table["image_id"])


def test_trouble_is_told_and_what_came_before_it_is_kept(
    config: RunConfig, snapshot: Snapshot
) -> None:
    diverging = config.fcan.model_copy(update={"learning_rate": 1e30})
    wanted = frozenset({"saliency", "fcan", "cues_phase0"})
    sample = StoredSample.of(Store(config.store), snapshot)
    found = Probe(config.model_copy(update={"fcan": diverging}), wanted)(sample)
    assert "lower fcan.learning_rate" in found.trouble
    assert set(found.paces) == {"saliency"}


def test_a_sample_without_a_usable_image_is_trouble(tmp_path: Path, config: RunConfig) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "torn.jpg").write_bytes(b"\xff\xd8 torn")
    corpus = config.corpus.model_copy(update={"kind": "folder", "root": str(photos)})
    settings = config.model_copy(update={"corpus": corpus})
    listing = list_corpus(Store(settings.store), corpus, 0)
    found = Probe(settings, frozenset({"saliency"}))(ListedSample.of(listing, 4))
    assert found.trouble == "no image of the sample can be used" and found.images == 0


def test_workers_share_a_batch(config: RunConfig, snapshot: Snapshot) -> None:
    batches = []
    plan = plan_of(config, snapshot)
    stage = plan.step("fcan").stage
    assert isinstance(stage, TrainStage)
    from dcsp.capacity import probe

    original = probe.rank_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "rank_batch", lambda *args: batches.append(args) or original(*args))
        sample = StoredSample.of(Store(config.store), snapshot)
        Probe(config, frozenset({"fcan"}), Worker(training_workers=2))(sample)
    assert batches == [(config.fcan.batch, 0, 2)]
