"""What the stages tell whoever watches, without a cluster: tasks run in this process, in order."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcsp.capacity.resources import Resources
from dcsp.config.file import parse_config
from dcsp.corpus.sources.folder import FolderSource
from dcsp.errors import ClusterError, ConfigError, CorpusError
from dcsp.evaluation.run import PartFigures
from dcsp.run.plan import build_plan, draft_plan
from dcsp.stages.step import Role
from dcsp.tables.layout import CORPUS_DIRECTORY, metrics_file, part_file, run_file
from dcsp.tables.snapshot import CorpusPart, Snapshot
from jobs import _chain, _cluster, _figures
from jobs._chain import Chain
from tests.corpus.tars import sample, write_tar
from tests.inspection.test_recompute import end


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Of a folder of three images, by the executor of this process."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6)).save(images / f"{name}.png")
    tree = {
        "store": str(tmp_path / "store"),
        "corpus": {"kind": "folder", "root": str(images), "classes": ["cat", "dog", "cow"]},
        "network": {"backbone": "resnet18", "weights": "random"},
        "cluster": {"executor": "here"},
    }
    return Chain(parse_config(tree))


def set_corpus(chain: Chain, **settings: Any) -> None:
    """Give a chain other settings of its corpus."""
    corpus = chain.config.corpus.model_copy(update=settings)
    chain.config = chain.config.model_copy(update={"corpus": corpus})


def test_evaluation_counts_every_part_as_it_ends(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(CorpusPart(name, "val", rows, "t") for name, rows in (("p", 4), ("q", 2)))
    counted: list[int] = []

    class Watched(_figures.Progress):
        def advance(self, step: int) -> None:
            counted.append(step)
            super().advance(step)

    class Evaluator:
        """Says how many parts had been counted before."""

        def __init__(self, *_: object) -> None:
            self.parts = parts

        def __call__(self, part: CorpusPart) -> PartFigures:
            assert len(counted) == parts.index(part)
            return PartFigures({}, None)

    monkeypatch.setattr(_figures, "Progress", Watched)
    monkeypatch.setattr(_figures, "Evaluator", Evaluator)
    snapshot = Snapshot(("cat",), (CorpusPart("n", "train", 9), *parts))
    measuring = _figures.Measuring(chain.store, chain.executor, lambda _, work: work())
    assert measuring.figures(build_plan(chain.config, snapshot)) == ({}, None)
    assert counted == [4, 2]


def test_classes_that_no_training_image_shows_are_told_at_ingest(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(str(chain.config.corpus.root))
    (root / "tags.csv").write_text("image,tags,split\na,cat,train\nb,,train\nc,dog,val\n")
    snapshot = chain.ingest()
    told = "ingest: no training image has a tag of these classes: dog, cow\n"
    assert told in capsys.readouterr().err
    assert chain.ingest() == snapshot  # of an equal listing
    assert told in capsys.readouterr().err
    folder = FolderSource(str(root), ("train", "val"))
    assert chain.ingest(folder) == snapshot  # to label, not to learn from
    assert "no training image" not in capsys.readouterr().err


@pytest.mark.parametrize("labels_alone", [False, True], ids=["ingest", "predict"])
def test_files_that_are_not_read_are_told_at_ingest(
    chain: Chain, capsys: pytest.CaptureFixture[str], labels_alone: bool
) -> None:
    root = Path(str(chain.config.corpus.root))
    for name in ("d.heic", "e.HEIC", "f.mov"):
        (root / name).write_bytes(b"-")
    source = FolderSource(str(root), ("train",), tagged=False) if labels_alone else None
    for _ in range(2):  # also of an equal listing
        chain.ingest(source)
        assert ": 2 .heic, 1 .mov; save pictures among them" in capsys.readouterr().err


def test_unknown_tags_and_scarce_classes_are_told_at_ingest(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(str(chain.config.corpus.root))
    (root / "tags.csv").write_text("image,tags\na,cat;axe;dogs\nb,cat;axe;cow\nc,cat;bow\n")
    set_corpus(chain, min_tag_support=2)
    snapshot = chain.ingest()
    for _ in range(2):  # also of an equal listing
        told = capsys.readouterr().err
        assert "fewer than corpus.min_tag_support=2 training images have a tag of dog (1)" in told
        assert "2 different tags mean no class, 3 times in all; the commonest" in told
        assert "'axe' (2)" in told
        assert chain.ingest() == snapshot
    (root / "tags.csv").write_text("image,tags\na,cat;dog\nb,cat;cow\nc,cat\n")
    assert chain.ingest() == snapshot
    assert "mean no class" not in capsys.readouterr().err.splitlines()[-1]


def test_a_class_more_takes_images_and_saliency_from_earlier_parts_and_says_so(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(str(chain.config.corpus.root))
    (root / "tags.csv").write_text("image,tags\na,cat\nb,dog\nc,fox\n")
    set_corpus(chain, max_rejected_share=1.0)
    (part,) = chain.ingest().parts
    (saliency,) = (step.stage for step in draft_plan(chain.config) if step.role is Role.MAPS)
    table = chain.store.read_table(part_file(CORPUS_DIRECTORY, part.name), ["image_id"])
    chain.store.write_table(part_file(saliency.key.directory, part.name), table)
    capsys.readouterr()
    set_corpus(chain, classes=("fox", "cat", "dog", "cow"))
    moved, read = chain.ingest().parts
    told = capsys.readouterr().err
    assert "3 images, 0 rejected, 3 new, 0 gone, 2 of them from earlier parts of the store" in told
    assert moved.name != part.name
    assert saliency.pending(chain.store, [moved.part, read.part]) == [read.part]
    assert chain.store.read_table(part_file(saliency.key.directory, moved.name)).equals(table)


def test_a_run_that_would_lose_the_one_before_stops_before_it_computes(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(str(chain.config.corpus.root)) / "tags.csv").write_text("image,tags\na,cat\nb,dog\n")
    end(chain.store, chain.plan())
    monkeypatch.setattr("dcsp.inspection.recompute.FEW", 1)
    chain.plan()
    chain.config = chain.config.model_copy(update={"seed": 7})
    with pytest.raises(ConfigError, match="would make anew fcan"):
        chain.plan()


def test_new_shards_are_listed_by_tasks_and_others_are_not_opened(
    chain: Chain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    set_corpus(chain, kind="webdataset", root=str(tmp_path / "tars"))
    for name in ("one", "two"):
        write_tar(tmp_path / f"tars/{name}.tar", sample("x", ["cat", "dog", "cow"]))
    assert chain.ingest().rows(["train"]) == 2
    assert "listing: 2/2 shards" in capsys.readouterr().err
    write_tar(tmp_path / "tars/three.tar", sample("x", ["cat"]))
    assert chain.ingest().rows(["train"]) == 3
    assert "listing: 1/1 shards" in capsys.readouterr().err
    assert chain.ingest().rows(["train"]) == 3
    assert "listing" not in capsys.readouterr().err


def test_a_folder_without_a_tag_table_can_be_labelled_and_not_learned_from(chain: Chain) -> None:
    with pytest.raises(CorpusError, match="has a tag: nothing can be learned"):
        chain.plan()
    folder = FolderSource(str(chain.config.corpus.root), ("train",), tagged=False)
    assert chain.ingest(folder).rows(["train"]) == 3


@pytest.mark.parametrize("limits", [{"stall_minutes": 0.005}, {"total_minutes": 1e-6}])
def test_a_listing_and_a_report_that_stand_still_end_the_job(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]
) -> None:
    cluster = chain.config.cluster.model_copy(update=limits)
    chain.config = chain.config.model_copy(update={"cluster": cluster})
    for name in ("list_corpus", "write_report"):
        monkeypatch.setattr(_chain, name, lambda *_: time.sleep(30))
    (limit,) = limits
    with pytest.raises(ClusterError, match=rf"stage listing.*cluster\.{limit}"):
        chain.ingest()
    plan = build_plan(chain.config, Snapshot(("cat",), (CorpusPart("n", "train", 9),)))
    for file in (metrics_file, run_file):
        chain.store.write_json(file(plan.run_id), {})
    with pytest.raises(ClusterError, match=rf"stage report.*cluster\.{limit}"):
        chain.record(plan)


def test_a_cluster_that_cannot_hold_the_job_is_refused_when_it_is_joined(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster, "connect", lambda _: Resources(2, 0, 1))
    settings = chain.config.cluster.model_copy(
        update={"executor": "ray", "actors": 5, "train_workers": 7, "train_cpus": 1.0}
    )
    config = chain.config.model_copy(update={"cluster": settings})
    with pytest.raises(ClusterError, match=r"cluster\.actors=5"):
        Chain(config).ingest()
    assert not Path(config.store).exists(), "nothing was started"
    with pytest.raises(ClusterError, match=r"train_workers"):
        Chain(config, mines=False).ingest()
    assert Chain(config, mines=False, trains=False).resources.cpus == 2


def of(chain: Chain, **settings: Any) -> Chain:
    """Another chain with other settings of the cluster."""
    cluster = chain.config.cluster.model_copy(update=settings)
    return Chain(chain.config.model_copy(update={"cluster": cluster}))


def test_this_process_keeps_the_limits_that_it_can(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ClusterError, match=r"cluster\.use_gpu is true and the cluster has no GPU"):
        of(chain, use_gpu=True).ingest()
    assert not Path(chain.config.store).exists()
    late = of(chain, total_minutes=1e-9)
    with pytest.raises(ClusterError, match=r"taken its 1e-09 minutes in the stage doubling"):
        late.executor.items(lambda item: item, [1], lambda _: None, "doubling")


def test_where_ray_is_not_the_way_out_is_named(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "jobs._cluster", raising=False)
    monkeypatch.delattr("jobs._cluster", raising=False)
    for name in [name for name in sys.modules if name.startswith("jobs._cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"install ray.*or set cluster\.executor=here"):
        of(chain, executor="ray").ingest()


def test_a_training_that_is_refused_leaves_nothing(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(chain.config, Snapshot(("cat",), (CorpusPart("n", "train", 9),)))
    monkeypatch.setattr(_cluster, "connect", lambda _: Resources(2, 0, 1))
    with pytest.raises(ClusterError, match="train_workers"):
        of(chain, executor="ray", train_workers=7, train_cpus=1.0).run(plan, plan.trainings[0])
    assert not Path(chain.config.store, "checkpoints").exists()
