"""A store with two runs over a corpus that grew, made by the chain, to be copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsp.config import RunConfig
from dcsp.store.store import Store
from jobs._chain import Chain
from tests import chain
from tests.threads import torch_threads


@dataclass(frozen=True)
class Nights:
    """What two nights left.

    Attributes:
        store: Holds both.
        configs: Of the first night and of the second, whose source holds an image more and one
            less.
        runs: Their ids.
    """

    store: Store
    configs: tuple[RunConfig, RunConfig]
    runs: tuple[str, str]

    def copied(self, place: Path) -> Nights:
        """The same in another store."""
        shutil.copytree(self.store.location(""), place)
        configs = tuple(c.model_copy(update={"store": str(place)}) for c in self.configs)
        return Nights(Store(place), (configs[0], configs[1]), self.runs)


def night(config: RunConfig) -> str:
    """What `dcsp relabel` does; returns the id of the run."""
    made = Chain(config)
    plan = made.plan()
    for step in plan:
        made.run(plan, step)
    made.finish(plan)
    return plan.run_id


def write_folder(root: Path, names: str) -> None:
    """A corpus of small photographs of noise with tags, one for each letter."""
    root.mkdir(exist_ok=True)
    for file in root.glob("*.png"):
        file.unlink()
    lines = ["image,tags,split"]
    for name in names:
        tag, split = "cat" if ord(name) % 2 else "dog", "val" if name in "yz" else "train"
        lines.append(f"photo_{name}.png,{tag},{split}")
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"photo_{name}.png")
    (root / "tags.csv").write_text("\n".join(lines))


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    place = tmp_path_factory.mktemp("nights")
    detector = chain.write_detector(place / "brightness.onnx")
    corpus = {
        "kind": "folder",
        "root": str(place / "photographs"),
        "classes": ["cat", "dog"],
        "part_rows": 3,
    }
    report = {"gallery": 40}
    with torch_threads(1):
        first = chain.chain_config(place / "store", detector, corpus=corpus, report=report)
        write_folder(place / "photographs", "abcdeyz")
        runs = [night(first)]
        write_folder(place / "photographs", "abcdfyz")
        second = first.model_copy(update={"seed": 1})
        runs.append(night(second))
        yield Nights(Store(place / "store"), (first, second), (runs[0], runs[1]))


@pytest.fixture
def nights(two_nights: Nights, tmp_path: Path) -> Nights:
    """A copy that a test may change; the source stays where it is."""
    return two_nights.copied(tmp_path / "store")
