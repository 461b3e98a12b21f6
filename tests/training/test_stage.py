"""A training stage: what it reads of zipped parts, what it starts from, and what it leaves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image

from dcsp.config import NetworkSettings, PrecisionSettings, TrainSettings
from dcsp.errors import StoreError, WeightsError
from dcsp.networks.checkpoint import checkpoint_is_complete, load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.run.here import Here
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels, encode_map
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY, MODEL_FILE, part_file
from dcsp.tables.snapshot import Part
from dcsp.training import recipe as recipe_module
from dcsp.training.logs import TrainLog
from dcsp.training.recipe import ScoreRecipe, TrainingInput
from dcsp.training.stage import TrainStage
from dcsp.training.stream import Rank, row_order
from tests.training.tiny import CLASSES, tiny_network

PARTS = [Part("aa", 3), Part("bb", 2)]
CUES, SALIENCY = StageKey("cues", 1), StageKey("saliency", 1)
SETTINGS = TrainSettings(steps=4, batch=2, crop=32, scale=(1.0, 1.0), flip=False)
STAGE = TrainStage(
    ScoreRecipe("joint_phase0", "joint", SETTINGS, learns_cues=True),
    NetworkSettings(backbone="resnet18", weights="random", output_stride=16),
    CLASSES,
    PrecisionSettings(autocast="fp32"),
    seed=5,
    corpus="images",
    tables=(
        TrainingInput("cues", CUES, "label", "cue"),
        TrainingInput("saliency", SALIENCY, "maps", "saliency", 2),
    ),
)


def colour(image_id: str) -> int:
    """The grey level of an image, which tells it from all others."""
    return 10 * (ord(image_id[0]) - ord("a") + 1) + 3 * int(image_id[1])


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Corpus, cues and saliency of two parts; the last image of each has no cue and no saliency."""
    made = Store(tmp_path)
    for part in PARTS:
        ids = [f"{part.name[0]}{number}" for number in range(part.rows)]
        last = [number == part.rows - 1 for number in range(part.rows)]
        corpus = {
            "image_id": ids,
            "height": [32] * part.rows,
            "width": [32] * part.rows,
            "bytes": pa.array([png(colour(i)) for i in ids], pa.large_binary()),
            "tags": [[1 + number % 3] for number in range(part.rows)],
        }
        labels = [encode_labels(np.full((32, 32), 1 + n % 3, np.uint8)) for n in range(part.rows)]
        maps = [[encode_map(np.full((8, 8), k / 4, np.float32)) for k in (1, 2, 3)]] * part.rows
        cues = [None if no else label for label, no in zip(labels, last, strict=True)]
        found = [None if no else m for m, no in zip(maps, last, strict=True)]
        for directory, columns in (
            (CORPUS_DIRECTORY, corpus),
            (CUES.directory, {"image_id": ids, "label": pa.array(cues, pa.binary())}),
            (SALIENCY.directory, {"image_id": ids, "maps": pa.array(found, pa.list_(pa.binary()))}),
        ):
            made.write_table(part_file(directory, part.name), pa.table(columns))
    return made


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages build the tiny network, from torch's global generator as real ones do."""

    def build(*_: object) -> SegmentationNetwork:
        return tiny_network(int(torch.randint(1000, ())))

    monkeypatch.setattr(recipe_module, "build_network", build)


def trained(store: Store, stage: TrainStage, parts: Sequence[Part]) -> dict[str, torch.Tensor]:
    """The weights after a whole training, which is done anew."""
    store.remove(stage.key.directory)
    stage.compute(Here(use_gpu=False), store, parts, stage.title)
    data = store.read_bytes(f"{stage.key.directory}/{MODEL_FILE}")
    return dict(safetensors.torch.load(data))


# --- reading --------------------------------------------------------------------------------------


def test_samples_are_the_rows_of_the_slice_with_their_cue_and_saliency(store: Store) -> None:
    (piece,) = [p for p in STAGE.pieces(PARTS, Rank(), 0) if p.part == "aa" and p.epoch == 0]
    batch = STAGE.read(store, piece)
    order = row_order(piece.row_order_seed, 3)[piece.start : piece.stop]
    assert len(batch["image"]) == len(order) == 3
    for index, row in enumerate(order):
        assert (batch["image"][index] == colour(f"a{row}")).all()
        assert batch["tags"][index].tolist() == [float(c == row % 3) for c in range(3)]
        lost = row == 2
        assert (batch["cue"][index] == (255 if lost else 1 + row % 3)).all()
        assert (batch["saliency"][index] == (0 if lost else 128)).all()  # S_2, not S_3
        assert batch["valid"][index].tolist() == ([0] * 4 if lost else [0, 0, 32, 32])


def test_a_stage_reads_what_its_losses_need(store: Store) -> None:
    plain = replace(STAGE, tables=())
    assert [source.directory for source in plain.inputs] == [CORPUS_DIRECTORY]
    batch = plain.read(store, plain.pieces(PARTS, Rank(), 0)[0])
    assert set(batch) == {"image", "tags", "valid"}
    tables = [source.directory for source in STAGE.inputs]
    assert tables == [CORPUS_DIRECTORY, CUES.directory, SALIENCY.directory]


def test_ranks_share_the_images_and_any_step_can_be_skipped_to() -> None:
    def rows(rank: int, world: int, step: int) -> list[tuple[int, str, int]]:
        return [
            (piece.epoch, piece.part, position)
            for piece in STAGE.pieces(PARTS, Rank(rank, world), step)
            for position in piece.rows(dict((p.name, p.live) for p in PARTS)[piece.part])
        ]

    assert len(rows(0, 1, 0)) == 8 and len(rows(0, 1, 3)) == 2
    assert rows(0, 1, 0)[6:] == rows(0, 1, 3)
    assert rows(0, 1, 4) == []
    first, second = rows(0, 2, 0), rows(1, 2, 0)
    assert [row for pair in zip(first, second, strict=True) for row in pair] == rows(0, 1, 0)


def test_titles_have_orders_of_their_own() -> None:
    other = replace(STAGE, recipe=replace(STAGE.recipe, title="joint_phase1"))
    assert STAGE.pieces(PARTS, Rank(), 0) == STAGE.pieces(PARTS, Rank(), 0)
    assert STAGE.pieces(PARTS, Rank(), 0) != other.pieces(PARTS, Rank(), 0)


# --- starting -------------------------------------------------------------------------------------


def weights(network: SegmentationNetwork) -> np.ndarray:
    return network.fcan.weight.detach().numpy()


def test_the_seed_decides_the_first_weights(store: Store) -> None:
    first, again = STAGE.build(store), STAGE.build(store)
    other = replace(STAGE, seed=6).build(store)
    np.testing.assert_array_equal(weights(first), weights(again))
    assert (weights(first) != weights(other)).any()


def test_a_stage_goes_on_from_the_checkpoint_before(store: Store) -> None:
    before = STAGE.build(store)
    STAGE.save(store, before, TrainLog("joint_phase0", 4, 2))
    following = replace(STAGE, seed=9, initial=STAGE.key).build(store)
    ours, theirs = before.state_dict(), following.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert following.card() == before.card()


# --- the checkpoint -------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_a_training_takes_all_its_steps_however_small_the_corpus(store: Store) -> None:
    settings = SETTINGS.model_copy(update={"steps": 7, "batch": 4})
    stage = replace(STAGE, recipe=replace(STAGE.recipe, settings=settings))
    trained(store, stage, PARTS)
    history = store.read_json(f"{stage.key.directory}/history.json")
    assert [entry["step"] for entry in history] == list(range(1, 8))
    assert {"loss", "classification", "segmentation", "learning_rate"} <= set(history[0])
    mark = store.read_json(f"{stage.key.directory}/complete.json")
    assert (mark["stage"], mark["steps"]) == ("joint_phase0", 7)
    assert mark["fingerprint"] == stage.key.fingerprint
    sizes = store.sizes(stage.key.directory)
    assert mark["bytes"] == sizes["model.safetensors"] and "tensorboard" in sizes


@pytest.mark.usefixtures("tiny")
def test_training_again_gives_the_same_network(store: Store) -> None:
    first = trained(store, STAGE, PARTS)
    again = trained(store, STAGE, PARTS[::-1])
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = trained(store, replace(STAGE, seed=6), PARTS)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_checkpoint_is_complete_with_its_last_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainLog, "write_events", killed)
    with pytest.raises(KeyboardInterrupt):
        STAGE.save(store, tiny_network(), TrainLog("x", 1, 1))
    assert store.exists(f"{STAGE.key.directory}/model.safetensors")
    assert not checkpoint_is_complete(store, STAGE.key.directory)


def test_missing_and_damaged_checkpoints_are_told(store: Store) -> None:
    with pytest.raises(StoreError, match=r"has no checkpoints/none/model\.json"):
        load_checkpoint(store, "checkpoints/none", SegmentationNetwork)
    STAGE.save(store, STAGE.build(store), TrainLog("x", 1, 1))
    file = f"{STAGE.key.directory}/model.safetensors"
    store.write_bytes(file, store.read_bytes(file)[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        load_checkpoint(store, STAGE.key.directory, SegmentationNetwork)
