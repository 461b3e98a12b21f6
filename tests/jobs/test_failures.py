"""Processes that are lost, stages that stand still, errors that are the user's, on one node."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group

from dcsp.capacity.resources import Resources
from dcsp.config import ClusterSettings, CorpusSettings, RunConfig
from dcsp.errors import ClusterError, CorpusError, StoreError, TrainingError
from dcsp.inspection.rejections import read_rejected
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.progress import Progress
from dcsp.store.store import Store
from dcsp.tables.snapshot import Part
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._chain import Chain
from jobs._cluster.training import free_places
from tests.jobs.running import REPOSITORY, Run, parts
from tests.jobs.stages import FaultyTraining, LengthStage, faulty, write_ids

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def mine(
    store: Store,
    stage: LengthStage,
    todo: list[Part],
    resources: Resources,
    **settings: float | None,
) -> list[str]:
    """Mine parts; the names of the parts that summaries came for."""
    cluster = ClusterSettings(**settings)
    progress = Progress("lengths", sum(part.rows for part in todo), stream=io.StringIO())
    done = _cluster.map_parts(store, stage, todo, resources, cluster, progress).summaries
    assert {summary.part: summary.rows for summary in done} == {p.name: p.rows for p in todo}
    assert progress.done == progress.total
    return [summary.part for summary in done]


def processes(name: str) -> set[int]:
    """Ray's living processes on this machine whose name starts so."""
    return {
        process.pid
        for process in psutil.process_iter(["name", "status"])
        if (process.info["name"] or "").startswith(f"ray::{name}")
        and process.info["status"] != psutil.STATUS_ZOMBIE  # dead, whoever has to bury it
    }


def assert_only(before: set[int], name: str) -> None:
    """That of the processes of a name only those from before are left, or soon will be."""
    end = time.monotonic() + 60
    while left := processes(name) - before:
        assert time.monotonic() < end, f"{name} that still live: {left}"
        time.sleep(0.2)


@pytest.mark.parametrize("dies", ["model", "finish"])
def test_a_lost_process_costs_and_duplicates_nothing(
    cluster: Resources, tmp_path: Path, dies: str
) -> None:
    stage = LengthStage(str(tmp_path), dies=dies)
    store = Store(tmp_path / "store")
    todo = write_ids(store, parts=8, rows=2)
    done = mine(store, stage, todo, cluster)
    assert (tmp_path / "died").exists()
    assert sorted(done) == [part.name for part in todo]
    whole = Store(tmp_path / "undisturbed")
    write_ids(whole, parts=8, rows=2)
    mine(whole, LengthStage(str(tmp_path)), todo, cluster)
    directory = stage.key.directory
    assert parts(tmp_path / "store" / directory) == parts(tmp_path / "undisturbed" / directory)
    assert not list((tmp_path / "store" / directory).glob(".tmp-*"))


def test_a_stage_that_stands_still_ends_the_job_with_the_users_error(
    no_cluster: None, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.jobs.standing_still", str(tmp_path)]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("error: The stage lengths made no progress for 0.1 minutes"), said
    assert ended.returncode == 2 and "Traceback" not in ended.stderr


def test_tasks_that_stand_still_are_an_error(cluster: Resources) -> None:
    def count(_: int) -> None:
        while True:  # in short sleeps: a cancelled task ends between two of them
            time.sleep(0.05)

    with pytest.raises(ClusterError, match=r"counting made no progress for 0\.02 minutes"):
        _cluster.map_items(count, [1], ClusterSettings(stall_minutes=0.02), title="counting")


def test_errors_of_the_user_come_out_as_they_are(
    cluster: Resources, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "store")
    todo = write_ids(store, parts=2, rows=2)
    before = processes("MapWorker")
    with pytest.raises(StoreError) as caught:
        mine(store, LengthStage(str(tmp_path), dies="by mistake"), todo, cluster)
    assert (type(caught.value), str(caught.value)) == (StoreError, "The disk is full: make room.")
    for record in caplog.records:  # pytest keeps them, and they keep where Ray Data logged them
        record.exc_info = None
    assert_only(before, "MapWorker")

    def task(number: int) -> int:
        raise CorpusError(f"Image {number} is bad: remove it.")

    with pytest.raises(CorpusError) as of_task:
        _cluster.map_items(task, [7], ClusterSettings())
    assert (type(of_task.value), str(of_task.value)) == (CorpusError, "Image 7 is bad: remove it.")


def test_an_ingest_that_is_stopped_says_what_it_refused(cluster: Resources, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"")
    corpus = CorpusSettings(kind="folder", root=str(tmp_path / "photos"), classes=("cat",))
    config = RunConfig(store=str(tmp_path / "store"), corpus=corpus)
    with pytest.raises(CorpusError, match=r"3 of 3 images were rejected .*dcsp rejected STORE"):
        Chain(config).ingest()
    assert [row["reason"] for row in read_rejected(Store(config.store))] == ["empty"] * 3


def run_training(
    stage: TrainStage, run: Run, resources: Resources, **settings: float | None
) -> Store:
    """Train with a stage that may be faulty."""
    store = Store(run.store)
    cluster = ClusterSettings(**{"train_cpus": 1.0, **settings})
    progress = Progress(stage.title, 1, stream=io.StringIO())
    todo = run.plan().snapshot.of(["train"])
    _cluster.train(store, stage, todo, resources, cluster, progress)
    return store


@pytest.fixture
def fresh(finished: Run, tmp_path: Path) -> Run:
    """A store with the tiny corpus alone."""
    return finished.with_corpus(tmp_path / "store")


def _fcan(run: Run, scratch: Path, fault: str, **settings: int) -> FaultyTraining:
    overrides = [f"fcan.{name}={value}" for name, value in settings.items()]
    stage = run.plan(*overrides).step("fcan").stage
    assert isinstance(stage, TrainStage)
    return faulty(stage, scratch, fault)


def test_a_lost_training_worker_goes_on_from_the_checkpoint(
    cluster: Resources, finished: Run, fresh: Run, tmp_path: Path
) -> None:
    stage = _fcan(fresh, tmp_path, "dies", checkpoint_every=1)
    store = run_training(stage, fresh, cluster)
    assert (tmp_path / "died").exists() and stage.starts() == 2
    history = json.loads((fresh.store / stage.key.directory / "history.json").read_text())
    assert history == json.loads((finished.table("fcan") / "history.json").read_text())
    load_checkpoint(store, stage.key.directory, SegmentationNetwork)
    assert not (fresh.store / "checkpoints/resumable" / stage.key.fingerprint).exists()


@pytest.mark.slow  # two ranks in one process: training/test_ddp.py
def test_two_workers_learn_from_the_batches_of_one_and_leave_no_process(
    cluster: Resources, finished: Run, fresh: Run, tmp_path: Path
) -> None:
    before = processes("TrainController")
    stage = _fcan(fresh, tmp_path, "")
    store = run_training(stage, fresh, cluster, train_workers=2)
    assert_only(before, "TrainController")
    assert stage.starts() == 2
    history = json.loads((fresh.store / stage.key.directory / "history.json").read_text())
    assert [figures["step"] for figures in history] == list(range(1, 13))
    alone = json.loads((finished.table("fcan") / "history.json").read_text())
    losses = [[figures["loss"] for figures in each] for each in (history, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    network = load_checkpoint(store, stage.key.directory, SegmentationNetwork)
    assert sum(p.numel() for p in network.parameters()) > 1_000_000


def test_a_training_that_diverges_ends_at_once_with_the_users_error(
    cluster: Resources, fresh: Run, tmp_path: Path
) -> None:
    stage = _fcan(fresh, tmp_path, "diverges")
    with pytest.raises(TrainingError, match=r"not finite: lower fcan\.learning_rate"):
        run_training(stage, fresh, cluster)
    assert stage.starts() <= 2, "it is not tried over and over"
    assert not (fresh.store / stage.key.directory / "complete.json").exists()


def test_more_workers_than_cpus_are_refused(cluster: Resources, fresh: Run, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"9 training workers of 1 CPUs want more"):
        run_training(_fcan(fresh, tmp_path, ""), fresh, cluster, train_workers=9)


def test_a_training_that_hangs_is_an_error_and_leaves_the_cluster_free(
    cluster: Resources, fresh: Run, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=r"fcan made no progress for 0\.25 minutes"):
        run_training(_fcan(fresh, tmp_path, "hangs"), fresh, cluster, stall_minutes=0.25)
    assert _cluster.map_items(len, ["free"], ClusterSettings(), num_cpus=cluster.cpus) == [4]


def test_places_of_a_trainer_that_could_not_end_itself_are_taken_back(
    cluster: Resources,
) -> None:
    class Controller:
        def start_workers(self) -> None:
            group = placement_group([{"CPU": cluster.cpus}])
            ray.get(group.ready())

    controller = ray.remote(num_cpus=0)(Controller).remote()
    ray.get(controller.start_workers.remote())
    ray.kill(controller)
    free_places()
    settings = ClusterSettings(stall_minutes=1.0)
    assert _cluster.map_items(len, ["free"], settings, num_cpus=cluster.cpus) == [4]


@pytest.mark.slow
def test_actors_that_would_take_every_cpu_leave_room_for_reads(
    cluster: Resources, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    todo = write_ids(store, parts=6, rows=1)
    mine(store, LengthStage(str(tmp_path)), todo, cluster, actors=6, stall_minutes=3)
