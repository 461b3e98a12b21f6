"""Growth, flame graphs and the model of a cluster: their arithmetic, and that they run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dcsp.capacity.pace import Pace
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.images.decode import decode_rgb
from dcsp.tables.codecs import decode_labels, encode_labels
from tests.bench import cluster_model, flame, growth
from tests.bench.cluster_model import Cluster, Stage
from tests.bench.flame_svg import draw
from tests.bench.growth import PHOTOGRAPH_PIXELS, ResizedSource

ROW = SourceRow("a", "a.png", "train", ("cat",), "m.png", "")


class OneImage:
    """A red image of 20×30 with a mask of class 3."""

    def list_rows(self) -> Listed:
        return Listed.of([ROW])

    def read(self, row: SourceRow) -> bytes:
        sink = io.BytesIO()
        Image.new("RGB", (30, 20), (250, 0, 0)).save(sink, "PNG")
        return sink.getvalue()

    def read_mask(self, row: SourceRow) -> bytes:
        return encode_labels(np.full((20, 30), 3, np.uint8))


def test_a_resized_source_has_larger_images_and_masks() -> None:
    source = ResizedSource(OneImage(), 2.0)
    image, mask = decode_rgb(source.read(ROW)), source.read_mask(ROW)
    assert mask is not None
    assert image.shape == (40, 60, 3) and image[..., 0].min() > 230
    assert (decode_labels(mask) == np.full((40, 60), 3)).all()


def test_cost_that_doubles_with_the_quantity_has_the_exponent_one() -> None:
    assert growth.exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert growth.exponent([1, 4], [3, 6]) == pytest.approx(0.5)
    series = [(n, {"cues": Pace("probe", 0, n / 1000, 0, 9)}) for n in (1.0, 2.0)]
    assert growth.table("pixels", series).splitlines() == [
        "pixels | 1 | 2",
        "cues, model | 1 | 2 | ∝ pixels^1.00",
    ]


def test_samples_belong_to_the_innermost_work_of_their_stage() -> None:
    stacks = [
        "S.load.<locals>.infer (dcsp/saliency/table.py);D._run (dcsp/saliency/detector.py:9) 6",
        "main (a.py);finish (dcsp/saliency/table.py);_png (dcsp/tables/codecs.py) 3",
        "main (a.py);finish (dcsp/saliency/table.py);sum (numpy/core.py) 1",
        "main (a.py);load (dcsp/saliency/table.py);read (x.py) 50",
        "main (a.py);add (dcsp/evaluation/confusion.py) 4",
        "main (a.py);add (dcsp/cues/table.py);finish (dcsp/cues/dcsp.py) 2",
        "Trainer.step (dcsp/training/loop.py);T.backward (torch/_tensor.py);run (c.py) 8",
        "main (a.py);elsewhere (b.py) 99",
    ]
    found = flame.shares(stacks)
    assert found["saliency"] == {"detector": 6, "encode PNG": 3, "the rest": 1}
    assert found["evaluation"] == {"confusion matrix": 4}
    assert found["joint_phase0"] == {"backward": 8}
    assert found["cues_phase0"] == {"the rest": 2}
    path = ("saliency", "infer (saliency/table.py)", "_run (saliency/detector.py)")
    assert flame.paths(stacks)[path] == 6
    assert "saliency (10 samples): detector 60%, encode PNG 30%" in flame.table(found)


def test_boxes_are_as_wide_as_their_share() -> None:
    picture = ElementTree.fromstring(draw({("a", "<b>"): 3, ("c",): 1}, "all"))
    groups = picture.findall("{*}g")
    titles = [group.findtext("{*}title") for group in groups]
    assert titles == ["all: 100.0 %", "a: 75.0 %", "<b>: 75.0 %", "c: 25.0 %"]
    boxes = [group.find("{*}rect") for group in groups]
    assert [float(box.attrib["x"]) for box in boxes if box is not None] == [0, 0, 0, 900]


def test_a_stage_of_a_cluster_takes_as_long_as_the_slower_of_its_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(gpus=2, cores=5, rate=100.0, utilisation=0.5)
    assert Stage("a", 1000.0, 50.0, 0).seconds(cluster) == 10
    assert Stage("b", 1000.0, 500.0, 0).seconds(cluster) == 50
    monkeypatch.setattr(cluster_model, "network_flops", lambda height, width: 10.0)
    monkeypatch.setattr(cluster_model, "detector_flops", lambda: 1.0)
    titles = ("ingest", "saliency", "cues_phase0", "predictions", "evaluation")
    points = [
        {"quantity": quantity, "value": value, "stage": title, "tasks": 2.0, "bytes": 7.0}
        for quantity in ("pixels", "pixels, with CRF")
        for value in (1.0, PHOTOGRAPH_PIXELS)
        for title in titles
    ]
    found = cluster_model.stages(points, images=100, steps=3, decoding=1.0)
    made = {stage.title: stage for stage in found}
    assert made["saliency"].flops == pytest.approx(280)
    assert made["predictions"].flops == 100 * 3 * 10
    assert (made["joint"].flops, made["joint"].core_seconds) == (3 * 10 * 3 * 64, 3 * 64)
    assert (made["cues_phase0"].core_seconds, made["ingest"].bytes) == (300, 700)
    assert "joint" in cluster_model.table(list(made.values()), cluster)


def test_a_network_is_counted_without_being_run() -> None:
    small, large = (cluster_model.network_flops(side, side) for side in (65, 129))
    assert 3 < large / small < 4.5


@pytest.mark.slow
@pytest.mark.network
def test_growth_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "growth.json"
    growth.main(["--quick", "--scenes", "--out", str(out)])
    points = json.loads(out.read_text(encoding="utf-8"))["points"]
    assert {p["quantity"] for p in points} >= {"pixels", "classes", "passes", "area of all scales"}
    assert all(p["model"] > 0 for p in points if p["stage"] == "saliency")
    assert "pixels | " in capsys.readouterr().out
