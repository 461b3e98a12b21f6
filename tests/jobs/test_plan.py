"""``dcsp plan`` on real clusters: what it refuses, and whether a run does what it foretells."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from dcsp.capacity.forecast import Forecast
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError
from dcsp.run.record import step_record
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY
from jobs import _cluster, plan, relabel
from jobs._planning import Planning
from tests.jobs.running import Run, states

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.mark.slow
def test_a_run_has_the_rows_parts_and_bytes_that_were_foretold(
    cluster: object, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = Run(tmp_path / "store", finished.config_file, "", "")
    planning = Planning(fresh.config())
    lines, probed = planning.forecast(probes=True)
    assert not fresh.store.exists(), "a plan leaves no trace"
    assert probed is not None and probed.trouble == "" and probed.images == 12
    foretold = {line.work.title: line for line in lines}

    store, done = Store(finished.store), finished.plan()
    corpus = store.sizes(CORPUS_DIRECTORY)
    ingest = foretold["ingest"]
    assert ingest.work.parts_left == len(done.snapshot.parts) == len(corpus)
    assert ingest.work.rows_left == done.snapshot.rows(["train", "val"])
    assert ingest.bytes_out == pytest.approx(sum(corpus.values()), rel=0.5)
    for step in done:
        line, record = foretold[step.title], step_record(store, done, step)
        assert line.source == "probe" and line.seconds is not None and line.seconds > 0
        if step.stage.learns:
            assert line.work.steps == record["steps"]
            assert line.bytes_out == record["bytes"]
        else:
            assert line.work.rows_left == sum(record["rows"].values()) == record["computed"]
            assert line.work.parts_left == record["parts"]
            assert line.workers == record["actors"] == 1
            assert line.bytes_out is not None
            # Labels of a network that learned for a few steps more are other labels.
            assert line.bytes_out == pytest.approx(record["bytes"], rel=0.5), step.title
            assert line.work.bytes_in is not None
    read = foretold["saliency"].work.bytes_in
    train = [part.name for part in done.snapshot.of(["train"])]
    assert read == pytest.approx(sum(corpus[f"{name}.parquet"] for name in train), rel=0.5)

    # Of the finished store: nothing is left, nothing is probed, and what ended is remembered.
    again, probed = Planning(finished.config()).forecast(probes=True)
    assert probed is None and not [line for line in again if line.work.rows_left]
    other = ["cues.dcsp={gamma_low: 0.1, gamma_high: 0.2, attention: {scales: [1.0]}}"]
    changed, _ = Planning(finished.config(*other)).forecast(probes=False)
    _assert_by_earlier(changed)
    arguments = ["--config", str(finished.config_file), f"store={finished.store}", *other]
    before = states(finished.store)
    capsys.readouterr()
    plan.main([*arguments, "--no-probe", "--price-per-cpu-hour", "0.1"])
    out = capsys.readouterr().out
    assert states(finished.store) == before
    table = out[out.index("\ncluster: 1 node (") :].splitlines()
    (head,) = (line for line in table if line.startswith("stage"))
    (cues,) = (line for line in table if line.startswith("cues_phase0"))
    assert head.split()[-3:] == ["cost", "measured", "by"] and cues.endswith("earlier")
    assert cues.split()[1:3] == ["4/4", "12"]


def _assert_by_earlier(lines: list[Forecast]) -> None:
    """What is done takes nothing; the rest as long as it took before, as far as that is known."""
    found = {line.work.title: line for line in lines}
    assert found["saliency"].source == found["fcan"].source == ""
    for title in ("cues_phase0", "cues_phase1", "joint_phase0", "predictions"):
        line = found[title]
        assert line.source == "earlier" and line.seconds is not None and line.seconds > 0, title
    assert found["evaluation"].seconds is None and found["evaluation"].source == "?"


@pytest.fixture
def nodes(no_cluster: None) -> Iterator[Cluster]:
    """A head without CPUs, and nodes of 1, 2 and 3 CPUs, the last with a GPU that is not there."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.add_node(num_cpus=1)
        made.add_node(num_cpus=2)
        made.add_node(num_cpus=3, num_gpus=1)
        yield made
    finally:
        _cluster.disconnect()
        made.shutdown()


def test_what_no_node_holds_is_refused_before_anything_is_started(
    config_file: Path, nodes: Cluster, tmp_path: Path
) -> None:
    def refused(job: Callable[[Sequence[str]], None], *settings: str) -> str:
        _cluster.disconnect()
        where = [f"store={tmp_path / 'store'}", f"cluster.address={nodes.address}"]
        with pytest.raises(ClusterError) as told:
            job(["--config", str(config_file), *where, *settings])
        assert not (tmp_path / "store" / "corpus" / "parts").exists()
        return str(told.value)

    no_gpu = "cluster.use_gpu=false"
    for job in (plan.main, relabel.main):
        assert "cluster.train_cpus" in refused(job, "cluster.train_cpus=4", no_gpu)
        assert "cluster.train_workers" in refused(job, "cluster.train_workers=2")
        assert "cluster.actors=6" in refused(job, "cluster.actors=6", no_gpu)
    resources = _cluster.connect(_settings(nodes, use_gpu=False))
    assert (resources.cpus, resources.gpus, resources.nodes) == (6, 0, 4)
    assert resources.room(2) == 2 and resources.room(1) == 6 and resources.room(1, 1) == 0
    both = _cluster.connect(_settings(nodes))
    assert both.room(1, 1) == 1 and both.memory and both.object_store


def _settings(nodes: Cluster, **settings: bool) -> ClusterSettings:
    return ClusterSettings(address=nodes.address, **settings)
