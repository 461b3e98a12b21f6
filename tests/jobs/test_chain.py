"""What the stages tell whoever watches, without a cluster: tasks run in this process, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dcsp.config_file import parse_config
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
