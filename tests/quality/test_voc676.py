"""Ten minutes of training on photographs, with bounds that a loss of three points breaks.

Every fourth image of voc676's training list and every eighth of its validation list, half of the
steps: of a corpus so small the figures are lower than in docs/results.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photographs import PHOTOGRAPHS, needs_photographs
from tests.source_tree import ROOT

pytestmark = [
    pytest.mark.quality,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(3600),
]

MEASURED = {"cues": 0.0, "train_published": 0.0, "val_crf": 0.0}
"""mIoU in percent of seed 0."""
LOSS = 3.0


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Figures of one run."""
    folder = tmp_path_factory.mktemp("quality")
    done = subprocess.run(
        [
            *(sys.executable, "jobs/relabel.py", "--config", "jobs/configs/voc676_quick.yaml"),
            f"corpus.root={_subset(folder / 'VOC2012')}",
            f"store={folder / 'store'}",
            "predict.splits=[train, val]",
            "cues.compare={}",
            "fcan.steps=300",
            "joint.steps=200",
            "cluster.executor=here",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = (folder / "store/runs").glob("*/metrics.json")
    found = json.loads(file.read_text())
    last = list(found["cues"].values())[-1]
    return {
        "cues": last["miou"],
        "train_published": found["train"]["miou_published"],
        "val_crf": found["val"]["miou_crf"],
    }


def _subset(root: Path) -> Path:
    """A VOC root with every fourth and every eighth image of voc676's lists."""
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (root / "ImageSets/Main").symlink_to(PHOTOGRAPHS / "ImageSets/Main")
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).symlink_to(PHOTOGRAPHS / folder)
    for split, step in {"train": 4, "val": 8}.items():
        names = (ROOT / "docs/voc676" / f"{split}.txt").read_text().split()
        (lists / f"{split}.txt").write_text("\n".join(names[::step]) + "\n")
    return root


@needs_photographs
@pytest.mark.parametrize("figure", MEASURED)
def test_labels_are_no_worse_than_they_were(metrics: dict[str, float], figure: str) -> None:
    assert metrics[figure] > MEASURED[figure] - LOSS, metrics


@needs_photographs
def test_published_labels_are_not_below_the_last_cues(metrics: dict[str, float]) -> None:
    assert metrics["train_published"] > metrics["cues"] - 0.5, metrics
