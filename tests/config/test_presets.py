"""Presets: settings below a config's own, key by key, in the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dcsp.config import (
    AttentionSettings,
    CRFSettings,
    DCSPSettings,
    DetectorSettings,
    NetworkSettings,
    PrecisionSettings,
    PredictSettings,
    SaliencySettings,
    TrainSettings,
)
from dcsp.config.cues import AdaptSettings
from dcsp.config.file import PRESETS, dump_config, load_config, parse_config
from dcsp.errors import ConfigError

CORPUS = {"kind": "folder", "root": "photos", "classes": ["cat"]}


def parsed(name: str, **own: Any) -> Any:
    return parse_config({"store": "s", "corpus": CORPUS, "preset": name, **own})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_a_whole_config_but_for_store_and_corpus(name: str) -> None:
    config = parsed(name)
    tree = yaml.safe_load(PRESETS[name].read_text())
    assert not {"store", "corpus", "cluster", "preset"} & set(tree)
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_the_papers_preset_lists_every_setting() -> None:
    tree = yaml.safe_load(PRESETS["paper"].read_text())
    blocks = {
        "network": NetworkSettings,
        "saliency": SaliencySettings,
        "saliency.detectors": DetectorSettings,
        "fcan": TrainSettings,
        "joint": TrainSettings,
        "cues.dcsp": DCSPSettings,
        "cues.dcsp.attention": AttentionSettings,
        "cues.adapt": AdaptSettings,
        "predict": PredictSettings,
        "predict.crf_settings": CRFSettings,
        "precision": PrecisionSettings,
    }
    for path, block in blocks.items():
        node = tree
        for step in path.split("."):
            node = node[step]
        assert set(node) == set(block.model_fields), path


def test_own_settings_go_before_those_of_the_preset() -> None:
    name = next(iter(PRESETS))
    below = parsed(name)
    above = parsed(name, fcan={"steps": 7}, cues={"dcsp": {"gamma_low": 0.01}})
    assert above.fcan == below.fcan.model_copy(update={"steps": 7})
    assert above.cues.dcsp == below.cues.dcsp.model_copy(update={"gamma_low": 0.01})
    assert above.cues.adapt == below.cues.adapt and above.joint == below.joint


def test_a_preset_can_be_chosen_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"store": "s", "corpus": CORPUS, "preset": "none"}))
    with pytest.raises(ConfigError, match=r"preset='none' is none of .*fast"):
        load_config(path)
    assert load_config(path, ["preset=fast"]) == parsed("fast")


@pytest.mark.parametrize(
    ("images", "steps"), [(1, 2), (10, 20), (49, 98), (50, 100), (10_000, 100)]
)
def test_a_small_corpus_ends_after_its_epochs(images: int, steps: int) -> None:
    settings = TrainSettings(steps=100, batch=10, epochs=20)
    assert settings.for_images(images).steps == steps
    assert settings.for_images(images).epochs is None
    endless = TrainSettings(steps=100)
    assert endless.for_images(images) is endless
