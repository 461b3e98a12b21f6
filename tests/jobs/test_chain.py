"""What the stages tell whoever watches, without a cluster: tasks run in this process, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcsp.config_file import parse_config
from dcsp.corpus.folder import FolderSource
from dcsp.errors import CorpusError
from dcsp.pipeline import build_plan
from dcsp.tables.snapshot import CorpusPart, Snapshot
from jobs import _chain
from jobs._chain import Chain


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Of a folder of three images, with tasks in this process."""

    def map_items(
        function: Callable[[Any], Any],
        items: Sequence[Any],
        settings: object,
        advance: Callable[[Any], None] = lambda _: None,
        **_: object,
    ) -> list[Any]:
        results = []
        for item in items:
            results.append(function(item))
            advance(results[-1])
        return results

    monkeypatch.setattr(_chain._cluster, "map_items", map_items)
    monkeypatch.setattr(Chain, "resources", None)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6)).save(images / f"{name}.png")
    tree = {
        "store": str(tmp_path / "store"),
        "corpus": {"kind": "folder", "root": str(images), "classes": ["cat", "dog", "cow"]},
        "network": {"backbone": "resnet18", "weights": "random"},
    }
    return Chain(parse_config(tree))


def test_evaluation_counts_every_part_as_it_ends(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(CorpusPart(name, "val", rows, "t") for name, rows in (("p", 4), ("q", 2)))
    counted: list[int] = []

    class Watched(_chain.Progress):
        def advance(self, step: int, note: str = "") -> None:
            counted.append(step)
            super().advance(step, note)

    class Evaluator:
        """Says how many parts had been counted before."""

        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, part: CorpusPart) -> dict[str, Any]:
            assert len(counted) == parts.index(part)
            return {}

    monkeypatch.setattr(_chain, "Progress", Watched)
    monkeypatch.setattr(_chain, "Evaluator", Evaluator)
    monkeypatch.setattr(_chain, "build_metrics", lambda *_: {})
    monkeypatch.setattr(_chain, "table_rows", lambda *_: {})
    snapshot = Snapshot(("cat",), (CorpusPart("n", "train", 9), *parts))
    chain.evaluate(build_plan(chain.config, snapshot))
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


def test_a_folder_without_a_tag_table_can_be_labelled_and_not_learned_from(chain: Chain) -> None:
    with pytest.raises(CorpusError, match="has a tag: nothing can be learned"):
        chain.plan()
    folder = FolderSource(str(chain.config.corpus.root), ("train",), tagged=False)
    assert chain.ingest(folder).rows(["train"]) == 3
