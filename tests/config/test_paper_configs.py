"""The paper's own configs at reduced size: every stage runs, other settings left as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.config.file import load_config
from dcsp.run.overview import describe
from dcsp.store.store import Store
from dcsp.tables.layout import HISTORY_FILE
from tests.chain import compute, evaluate, ingest, table, write_detector

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
SMALL = [
    "corpus.kind=scenes",
    "corpus.classes=[ball, crate, starfish, mushroom, fish, cactus]",
    "corpus.part_rows=3",
    "corpus.scenes={train: 4, val: 2, height: 48, width: 64}",
    "network.weights=random",
    "saliency.detectors.height=32",
    "saliency.detectors.width=32",
    "saliency.detectors.mean=[0, 0, 0]",
    "saliency.detectors.std=[1, 1, 1]",
    *(f"{stage}.{key}" for stage in ("fcan", "joint") for key in ("steps=2", "batch=2", "crop=65")),
    "report.gallery=2",
    "cluster.executor=here",
]
BACKBONES = {"voc12_resnet101": "resnet101", "voc12_vgg16": "vgg16"}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_paper_s_settings_are_the_defaults(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [f"store={tmp_path}", f"corpus.root={tmp_path}"])
    assert config.corpus.split_files == {"train": "trainaug"}  # 10,582 images, not VOC's 1,464
    assert config.network.backbone == BACKBONES[name]
    assert config.network.atrous_rates == (6, 12, 18, 24) and config.network.output_stride == 8
    assert (config.fcan.steps, config.joint.steps, config.cues.adapt.rounds) == (30_000, 10_000, 1)
    for settings in (config.fcan, config.joint):
        assert (settings.optimizer, settings.batch, settings.crop) == ("sgd", 10, 321)
        assert (settings.learning_rate, settings.weight_decay) == (1e-3, 5e-4)
        assert (settings.head_multiplier, settings.bias_multiplier) == (10, 20)
        assert settings.saliency_weight == 0 and settings.train_backbone
    assert config.saliency.thresholds == (0.7, 0.8)
    assert config.cues.dcsp.gamma_low == config.cues.dcsp.gamma_high == 0.4
    assert config.cues.dcsp.saliency_pass == 3
    assert config.cues.dcsp.attention.scales == config.predict.scales == (1, 0.75, 0.5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_dry_run_lists_every_stage(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [f"store={tmp_path / 'store'}"])
    text = describe(config)
    stages = ("ingest", "saliency", "fcan", "cues_phase0", "joint_phase0", "cues_phase1")
    assert all(stage in text for stage in (*stages, "joint_phase1", "predictions"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_dry_run_on_voc_as_it_comes_names_the_list_that_is_missing(
    name: str, tmp_path: Path
) -> None:
    for file in (
        "JPEGImages/a.jpg",
        *(f"ImageSets/Segmentation/{s}.txt" for s in ("train", "val")),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("a\n")
    overrides = [f"store={tmp_path / 'store'}", f"corpus.root={tmp_path}"]
    text = describe(load_config(CONFIGS / f"{name}.yaml", overrides))
    assert "trainaug.txt, the list of the split train: put it there" in text


@pytest.mark.parametrize("name", BACKBONES)
def test_two_steps_of_every_stage_run_on_a_cpu(name: str, tmp_path: Path) -> None:
    detector = write_detector(tmp_path / "detector.onnx")
    overrides = [f"store={tmp_path / 'store'}", f"saliency.detectors.model={detector}", *SMALL]
    config = load_config(CONFIGS / f"{name}.yaml", overrides)
    plan = compute(config, ingest(config))
    metrics = evaluate(plan)
    store = Store(config.store)
    trainings = [step.stage for step in plan if step.stage.learns]
    assert [stage.title for stage in trainings] == ["fcan", "joint_phase0", "joint_phase1"]
    for stage in trainings:
        history = store.read_json(f"{stage.key.directory}/{HISTORY_FILE}")
        assert [entry["step"] for entry in history] == [1, 2]
    assert set(table(plan, "predictions", ("val",))) == {"val_000000", "val_000001"}
    assert metrics["val"]["images"] == 2 and metrics["val"]["miou_crf"] is not None
