"""What the four tables made image by image have in common: a row is a function of its image.

Each stage is run over a part of images of several sizes, with a bad one and an untagged one among
them, and over parts of one image each; a tiny network and a tiny detector stand in for real ones.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dcsp.config import AttentionSettings, RunConfig
from dcsp.config.file import parse_config
from dcsp.cues.adapt import AdaptStage
from dcsp.cues.dcsp import DCSPStage
from dcsp.cues.published import PublishedRule
from dcsp.cues.table import CueImages, CueRow, CueWriter
from dcsp.images.decode import decode_rgb
from dcsp.inference.table import PredictionStage
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.networks.weights import weights_digest
from dcsp.saliency.detector import SaliencyDetector
from dcsp.saliency.hierarchy import hierarchical_saliency
from dcsp.saliency.table import SaliencyStage
from dcsp.stages.stage import Device, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps, encode_map
from dcsp.tables.fingerprint import StageKey
from tests.chain import chain_config, write_detector
from tests.training.tiny import CLASSES, tiny_network

SIZES = [(40, 56), (56, 40), (40, 56), (33, 90), (40, 56)]
BAD, UNTAGGED = 1, 4
TAGS = [[1], [2], [1, 3], [2], []]
NETWORK = StageKey("joint", 1)
KINDS = [
    "saliency",
    "cues",
    "cues with CRF",
    "adapted",
    "adapted with CRF",
    "predictions",
    "predictions by tags",
    "predictions by cues",
]


def image(height: int, width: int, seed: int) -> np.ndarray:
    """Blocks of colour, so that networks and detectors find something."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rows_of(indices: Sequence[int]) -> pa.Table:
    """Rows as a stage reads them, zipped with saliency."""
    rows: list[dict[str, Any]] = []
    for i in indices:
        pixels = image(*SIZES[i], seed=i)
        maps = [encode_map((pixels[..., k] / 255).astype(np.float32)) for k in range(3)]
        rows.append(
            {
                "image_id": f"image{i}",
                "height": SIZES[i][0],
                "width": SIZES[i][1],
                "tags": TAGS[i],
                "bytes": b"\x89PNG no more" if i == BAD else png(pixels),
                "saliency.maps": None if i == BAD else maps,
                "saliency.status": "error" if i == BAD else "ok",
                "saliency.error": "unreadable: gone" if i == BAD else None,
                "split": "train",
            }
        )
    schema = pa.schema(
        {
            "image_id": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "tags": pa.list_(pa.int16()),
            "bytes": pa.large_binary(),
            "saliency.maps": pa.list_(pa.binary()),
            "saliency.status": pa.string(),
            "saliency.error": pa.string(),
            "split": pa.string(),
        }
    )
    return pa.Table.from_pylist(rows, schema)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> SegmentationNetwork:
    """The network of every checkpoint."""
    made = tiny_network().eval()
    with torch.no_grad():  # strong opinions: attention and labels differ from place to place
        for parameter in made.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.manual_seed(parameter.ndim))
            )
    for module in ("dcsp.cues.stage", "dcsp.inference.table"):
        monkeypatch.setattr(f"{module}.load_checkpoint", lambda *_: made)
    return made


def config(**network: Any) -> RunConfig:
    tree = {
        "store": "x",
        "corpus": {"kind": "scenes"},
        "network": network,
        "precision": {"autocast": "fp32"},
        "cues": {"crf": {"iterations": 2}},
        "predict": {"crf_settings": {"iterations": 2}, "scales": [1, 0.5], "flip": True},
    }
    return parse_config(tree)


def stage_of(kind: str, detector: str, settings: RunConfig) -> TableStage:
    crf = kind.endswith("CRF")
    if kind == "saliency":
        saliency = chain_config("x", detector).saliency
        digests = (weights_digest(detector),)
        return SaliencyStage(saliency.detectors, saliency.thresholds, digests, 10_000)
    if kind.startswith("cues"):
        dcsp = settings.cues.dcsp.model_copy(update={"crf": crf})
        return DCSPStage(settings, dcsp, NETWORK, StageKey("saliency", 1))
    if kind.startswith("adapted"):
        adapt = settings.cues.adapt.model_copy(update={"crf": crf})
        cues = settings.cues.model_copy(update={"adapt": adapt})
        return AdaptStage(settings.model_copy(update={"cues": cues}), NETWORK, phase=1)
    rule = None
    if kind.endswith("tags"):
        rule = PublishedRule.of(settings, None, None)
    elif kind.endswith("cues"):
        rule = PublishedRule.of(settings, settings.cues.dcsp, StageKey("saliency", 1))
    max_side = settings.network.max_side
    return PredictionStage(
        settings.predict, settings.precision, max_side, 10_000, NETWORK.directory, rule=rule
    )


def made_by(stage: TableStage, rows: pa.Table) -> list[dict[str, Any]]:
    """The rows of the table that a stage makes of a part, as it is written."""
    wanted = [source.column(column) for source in stage.inputs for column in source.columns]
    model = stage.load(Store("unused"), Device())
    table = stage.finish(model(rows.select(wanted)))
    return table.select(stage.schema.names).cast(stage.schema).to_pylist()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_detector(tmp_path_factory.mktemp("detector") / "brightness.onnx")


def pictures(row: dict[str, Any]) -> list[np.ndarray]:
    """Every label and map of a row."""
    found = [decode_labels(row[n]) for n in ("label", "label_without_crf") if row.get(n)]
    found += [decode_map(data) for data in row.get("maps") or ()]
    if row.get("attention"):
        found.append(decode_maps(row["attention"], row["attention_shape"]))
    return found


@pytest.mark.parametrize("max_side", [None, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_rest_of_its_part(
    kind: str, max_side: int | None, detector: str
) -> None:
    stage = stage_of(kind, detector, config(max_side=max_side))
    together = made_by(stage, rows_of(range(5)))
    for index, row in enumerate(together):
        (alone,) = made_by(stage, rows_of([index]))
        assert row["image_id"] == alone["image_id"] == f"image{index}"
        assert (row["status"], row["error"]) == (alone["status"], alone["error"])
        ours, theirs = pictures(row), pictures(alone)
        assert len(ours) == len(theirs) and bool(ours) == (row["status"] == "ok")
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.shape == other.shape
            assert (np.abs(mine.astype(float) - other) > 0.01).mean() < 0.005
        if row.get("label"):
            assert decode_labels(row["label"]).shape == SIZES[index]
    labels = [pictures(row)[0] for row in together if row["status"] == "ok"]
    assert any(len(np.unique(label)) > 1 for label in labels)  # there was something to compare


@pytest.mark.parametrize("kind", KINDS)
def test_bad_and_untagged_images_have_their_status(kind: str, detector: str) -> None:
    rows = made_by(stage_of(kind, detector, config()), rows_of(range(5)))
    expected = ["ok", "error", "ok", "ok", "ok"]
    if kind.startswith(("cues", "adapted")):
        expected[UNTAGGED] = "skipped"
    assert [row["status"] for row in rows] == expected
    reason = "saliency: unreadable: gone" if kind.startswith("cues") else "unreadable: "
    assert rows[BAD]["error"].startswith(reason)
    assert [row["error"] for row in rows if row["status"] != "error"] == [None] * 4


@pytest.mark.parametrize("kind", ["cues", "cues with CRF", "adapted", "adapted with CRF"])
def test_cues_hold_tags_and_background_alone(kind: str, detector: str) -> None:
    """Method 1.6: a class without a tag cannot win, whatever the network thinks of it."""
    for row in made_by(stage_of(kind, detector, config()), rows_of(range(5))):
        if row["status"] == "ok":
            label = decode_labels(row["label"])
            assert set(np.unique(label)) <= {0, *row["tags"]}
            assert row["foreground"] == pytest.approx(float((label > 0).mean()), abs=1e-6)


def test_attention_is_stored_one_map_a_tag(detector: str) -> None:
    for row in made_by(stage_of("cues", detector, config()), rows_of(range(5))):
        if row["status"] == "ok":
            maps = decode_maps(row["attention"], row["attention_shape"])
            assert len(maps) == len(row["tags"]) and maps.min() == 0 and maps.max() == 1


@pytest.mark.parametrize("kind", ["cues", "adapted", "predictions"])
def test_the_network_sees_no_image_longer_than_the_limit(
    kind: str, detector: str, network: SegmentationNetwork
) -> None:
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(max(inputs[0].shape[-2:])))
    made_by(stage_of(kind, detector, config(max_side=48)), rows_of(range(5)))
    assert seen and max(seen) <= 49  # the nearest size that the cells of the score map fit


def test_saliency_is_the_hierarchy_of_the_detector(detector: str) -> None:
    stage = stage_of("saliency", detector, config())
    card = chain_config("x", detector).saliency
    rows = made_by(stage, rows_of(range(5)))
    loaded = SaliencyDetector(detector, card.detectors[0])
    (expected,) = hierarchical_saliency([image(*SIZES[0], seed=0)], loaded, card.thresholds)
    found = np.stack([decode_map(data) for data in rows[0]["maps"]])
    np.testing.assert_allclose(found, expected, atol=1 / 509)
    assert found.shape == (3, 32, 32)


def test_where_the_detector_lies_does_not_decide_the_table(detector: str) -> None:
    card = chain_config("x", detector).saliency.detectors
    moved = chain_config("x", "elsewhere.onnx").saliency.detectors
    key = SaliencyStage(card, (0.7,), ("ab",), 1).key
    assert key == SaliencyStage(moved, (0.7,), ("ab",), 2).key
    assert key != SaliencyStage(card, (0.7,), ("cd",), 1).key


def test_s1_can_take_the_place_of_s3(detector: str) -> None:
    stage = stage_of("cues", detector, config())
    assert isinstance(stage, DCSPStage)
    (cue,) = made_by(stage, rows_of([0]))
    (row,) = rows_of([0]).to_pylist()
    attention, shape = cue["attention"], cue["attention_shape"]
    third = stage.label(row, attention, shape)
    np.testing.assert_array_equal(third, decode_labels(cue["label"]))
    row["saliency.maps"][2] = row["saliency.maps"][0]
    np.testing.assert_array_equal(
        stage.label(row, attention, shape), stage.label(row, attention, shape, saliency_pass=1)
    )
    assert (stage.label(row, attention, shape) != third).any()


@pytest.mark.parametrize("kind", ["predictions by tags", "predictions by cues"])
def test_a_published_label_holds_its_tags_alone(detector: str, kind: str) -> None:
    rows = made_by(stage_of(kind, detector, config()), rows_of(range(5)))
    for number, row in enumerate(rows):
        if number == BAD:
            assert row["status"] == "error" and row["rule"] is None and row["label"] is None
            continue
        tagged = number != UNTAGGED
        assert row["rule"] == (kind.rpartition(" ")[2] if tagged else "network")
        found = set(np.unique(decode_labels(row["label"])).tolist())
        assert {area["class"] for area in row["areas"]} == found
        assert not tagged or found <= {0, *TAGS[number]}
        # Nobody asks for the network's own refined labels of a training image with tags.
        assert (row["label_network"] is None) == tagged
        assert tagged or row["label_network"] == row["label"]


def test_the_networks_own_label_does_not_depend_on_tags(detector: str) -> None:
    ruled = made_by(stage_of("predictions by cues", detector, config()), rows_of([0, 3]))
    alone = made_by(stage_of("predictions", detector, config()), rows_of([0, 3]))
    for one, other in zip(ruled, alone, strict=True):
        assert one["label_without_crf"] == other["label_without_crf"]
        assert other["label"] == other["label_network"] and other["rule"] == "network"


def test_a_validation_image_has_the_networks_own_refined_label_too(detector: str) -> None:
    rows = rows_of([0])
    val = rows.set_column(rows.schema.get_field_index("split"), "split", pa.array(["val"]))
    (ruled,) = made_by(stage_of("predictions by cues", detector, config()), val)
    (alone,) = made_by(stage_of("predictions", detector, config()), val)
    assert ruled["label_network"] == alone["label"] and ruled["label"] != alone["label"]


def test_a_label_by_the_rule_of_the_cues_is_one_more_phase(
    detector: str, network: SegmentationNetwork
) -> None:
    with torch.no_grad():  # milder opinions: scores travel in half precision, attention does not
        for parameter in network.aspp.parameters():
            parameter.mul_(0.05)
    settings = parse_config(
        config().model_dump(mode="json")
        | {"predict": {"scales": [1], "fuse": "mean", "crf": False}}
    )
    rule = settings.cues.dcsp.model_copy(
        update={"attention": AttentionSettings(source="probabilities", scales=(1.0,), fuse="mean")}
    )
    maps = StageKey("saliency", 1)
    (cue,) = made_by(DCSPStage(settings, rule, NETWORK, maps), rows_of([2]))
    stage = PredictionStage.of(
        settings, NETWORK.directory, rule=PublishedRule.of(settings, rule, maps)
    )
    (row,) = made_by(stage, rows_of([2]))
    same = decode_labels(cue["label"]) == decode_labels(row["label"])
    assert same.mean() > 0.98  # the table of cues keeps attention in eight bits


def test_distractors_are_hidden_in_every_label(detector: str) -> None:
    settings = config()
    for shown_as, value in (("background", 0), ("ignored", 255)):
        corpus = settings.corpus.model_copy(
            update={
                "classes": CLASSES[:2],
                "distractors": CLASSES[2:],
                "distractors_are": shown_as,
            }
        )
        hidden = settings.model_copy(update={"corpus": corpus})
        rule = PublishedRule.of(hidden, None, None)
        stages = [
            PredictionStage.of(made, NETWORK.directory, rule=rule) for made in (settings, hidden)
        ]
        before, after = (made_by(stage, rows_of([0, 2])) for stage in stages)
        assert stages[0].key.fingerprint != stages[1].key.fingerprint
        for one, other in zip(before, after, strict=True):
            for column in ("label", "label_without_crf"):
                expected = decode_labels(one[column])
                expected[expected == 3] = value
                np.testing.assert_array_equal(decode_labels(other[column]), expected)
            assert {area["class"] for area in other["areas"]} <= {0, 1, 2}
            pixels = sum(area["pixels"] for area in other["areas"])
            assert pixels == (decode_labels(other["label"]) != 255).sum()


def test_predictions_without_a_crf_are_one_label(detector: str) -> None:
    settings = config()
    predict = settings.predict.model_copy(update={"crf": False})
    stage = PredictionStage(predict, settings.precision, None, 10_000, NETWORK.directory)
    (row,) = made_by(stage, rows_of([0]))
    assert row["label"] == row["label_without_crf"]
    assert {area["class"] for area in row["areas"]} <= set(range(len(CLASSES) + 1))
    assert sum(area["pixels"] for area in row["areas"]) == 40 * 56


# --- what cue stages share ------------------------------------------------------------------------


@pytest.mark.parametrize("max_side", [None, 20, 45, 1000])
def test_an_image_has_the_inner_size_that_is_foretold(max_side: int | None) -> None:
    images = CueImages.of(config(max_side=max_side))
    for number, (height, width) in enumerate(SIZES):
        pixels = image(height, width, seed=number)
        seen = images.decode(png(pixels))
        assert seen.shape[:2] == images.inner_size(height, width)
        if max_side is None or max_side > 90:
            np.testing.assert_array_equal(seen, decode_rgb(png(pixels)))
        else:
            assert max(seen.shape) <= max_side


def test_a_cue_row_has_a_label_or_a_reason() -> None:
    writer = CueWriter("dcsp", phase=0)
    row = {"image_id": "a", "height": 4, "width": 6, "tags": [2]}
    small = np.array([[0, 2, 255]], np.uint8)
    writer.add(row, "ok", CueRow(small, b"png", (1, 2, 3)))
    writer.add(row, "skipped", CueRow())
    writer.add(row, "error", CueRow(error="truncated: too short"))
    writer.add(row, "ok", CueRow(small, error="saliency: gone"))
    good, skipped, bad, lost = writer.table().to_pylist()
    assert [r["status"] for r in (good, skipped, bad, lost)] == ["ok", "skipped", "error", "error"]
    assert [r["label"] for r in (skipped, bad, lost)] == [None] * 3
    assert (bad["error"], lost["error"]) == ("truncated: too short", "saliency: gone")
    np.testing.assert_array_equal(decode_labels(good["label"]), np.tile(small.repeat(2, 1), (4, 1)))
    assert good["foreground"] == pytest.approx(1 / 3)


def test_stages_travel_to_workers(detector: str) -> None:
    for kind in KINDS:
        stage = stage_of(kind, detector, config())
        sent = pickle.loads(pickle.dumps(stage))
        assert sent.key.fingerprint == stage.key.fingerprint and sent.inputs == stage.inputs
