"""The whole chain on saliency that somebody else computed, with a distractor among the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsp.config.file import parse_config
from dcsp.labels import SCENE_CLASSES
from dcsp.saliency.maps import MapStage
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from tests import chain
from tests.threads import torch_threads


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of every scene but one."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for number in range(count):
            levels = rng.integers(0, 256, (48, 64), dtype=np.uint8)
            Image.fromarray(levels).save(folder / f"{split}_{number:06d}.png")
    (folder / "train_000003.png").unlink()
    return folder


def test_maps_of_others_take_the_place_of_a_detector(tmp_path: Path, maps: Path) -> None:
    settings = chain.chain_config(
        tmp_path / "store",
        "unused",
        saliency={"maps": str(maps)},
        cues={"dcsp": {"saliency_pass": 1, "gamma_low": 0.3, "gamma_high": 0.3}},
    )
    tree = settings.model_dump(mode="json")
    corpus = tree["corpus"] | {"classes": SCENE_CLASSES[:5], "distractors": SCENE_CLASSES[5:]}
    config = parse_config(tree | {"corpus": corpus})
    with torch_threads(1):
        plan = chain.compute(config, chain.ingest(config))
        metrics = chain.evaluate(plan)
    assert isinstance(plan.step("saliency").stage, MapStage)
    rows = chain.table(plan, "saliency")
    assert rows["train_000003"]["error"].startswith("missing_map: ")
    assert metrics["rows"]["saliency"] == {"ok": 7, "skipped": 0, "error": 1}
    cues = chain.table(plan, "cues_phase0")
    assert cues["train_000003"]["error"].startswith("saliency: missing_map: ")
    labels = chain.table(plan, "predictions", ("train", "val"))
    rules = {name: row["rule"] for name, row in labels.items()}
    assert rules["train_000003"] == "tags" and rules[chain.UNTAGGED] == "network"
    assert rules["val_000000"] == "cues"
    shown = [decode_labels(row["label"]) for row in labels.values() if row["label"]]
    assert max(int(label.max()) for label in shown) <= 5
    assert set(metrics["val"]["per_class"]) == {"background", *SCENE_CLASSES[:5]}
    assert Store(config.store).parts(plan.step("predictions").stage.key.directory)
