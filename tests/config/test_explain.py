"""``dcsp config``: what is said of every setting is what the settings are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from dcsp.config import RunConfig
from dcsp.config.explain import ALL, Setting, explained, find_setting
from dcsp.config.file import PRESETS, load_config
from dcsp.errors import ConfigError


def leaves(setting: Setting) -> Iterator[Setting]:
    """Every setting below a block."""
    for each in setting.within():
        if each.block is None:
            yield each
        else:
            yield from leaves(each)


def test_every_setting_has_its_docstring() -> None:
    silent = [setting.key for setting in leaves(ALL) if not setting.told]
    assert not silent, f"no docstring below: {silent}"
    assert len([*leaves(ALL)]) > 150


def test_every_setting_is_found_by_its_key() -> None:
    for setting in leaves(ALL):
        assert find_setting(setting.key) == setting
        assert setting.key in explained(setting)


def test_defaults_are_those_of_the_settings() -> None:
    config = RunConfig.model_validate({"store": "x", "corpus": {"kind": "scenes"}})
    for setting in leaves(ALL):
        value = config
        try:
            for step in setting.key.split("."):
                value = getattr(value, step)
        except AttributeError:  # below a list, a mapping, or what is left out
            assert setting.key.startswith(
                ("corrections.", "saliency.detectors.", "cues.compare.", "cues.adapt.dcsp.")
            )
            continue
        if setting.default == "required":
            assert setting.key in ("store", "corpus.kind")
            continue
        told = yaml.safe_load(setting.default)
        plain = [*value] if isinstance(value, tuple) else value
        assert told == plain or str(told) == str(plain), setting.key


def test_a_training_of_a_method_has_its_own_defaults() -> None:
    assert find_setting("cues.affinity.train.steps").default == "5000"
    assert find_setting("cues.mcof.seeds.gamma_low").default == "0.3"
    assert find_setting("fcan.steps").default == "30000"


def test_the_papers_values_are_those_of_the_papers_preset() -> None:
    """Where both are plain numbers; the preset is tested against the paper itself."""
    preset = load_config(PRESETS["paper"], ["store=x", "corpus.kind=scenes"])
    others = ("cues.mcof.", "cues.affinity.", "cues.builtin.")  # of other papers
    compared = 0
    for setting in leaves(ALL):
        value = preset
        try:
            for step in setting.key.split("."):
                value = getattr(value, step)
        except AttributeError:
            continue
        told = setting.paper.replace(",", "")
        if re.fullmatch(r"[\d.]+(e-?\d+)?", told) and isinstance(value, int | float):
            assert float(told) == value or setting.key.startswith(others), setting.key
            compared += 1
    assert compared > 25


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("fcan.learning_rate", "number > 0"),
        ("corpus.part_rows", "whole number ≥ 1 ≤ 4096"),
        ("retrain", "every, never or number ≥ 0 ≤ 1"),
        ("joint.scale", "[number > 0, number > 0]"),
        ("corpus.limit", "whole number ≥ 1 or null"),
        ("predict.splits", "list of train, val"),
        ("cues.compare", "names, each with settings"),
        ("cues.refine", "affinity or null"),
        ("fcan.flip", "true or false"),
        ("saliency.detectors.height", "whole number ≥ 1"),
    ],
)
def test_types_are_told_in_words_with_their_range(key: str, kind: str) -> None:
    assert find_setting(key).kind == kind


def test_a_setting_is_told_with_the_papers_value_apart() -> None:
    assert explained(find_setting("fcan.learning_rate")).splitlines() == [
        "fcan.learning_rate",
        "Of the backbone's weights.",
        "  type:     number > 0",
        "  default:  0.001",
        "  paper:    1e-3",
    ]
    assert explained(find_setting("cues.compare.mine.gamma_low")).startswith(
        "cues.compare.mine.gamma_low\nA mean below this"
    )


def test_a_block_is_told_with_its_settings() -> None:
    lines = explained(find_setting("cues.adapt")).splitlines()
    assert lines[0] == "cues.adapt" and lines[1].startswith("Cues from the jointly trained")
    names = [line.split()[0] for line in lines[lines.index("") + 1 :]]
    assert names == ["rounds", "dcsp", "scales", "flip", "fuse", "crf"]
    every = explained(find_setting(""))
    assert all(f"\n{name} " in every for name in ("preset", *RunConfig.model_fields))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "fcan.stpes",
            r"no setting 'fcan.stpes', did you mean 'steps'\?: `dcsp config fcan`",
        ),
        ("zzz", r"no setting 'zzz': `dcsp config` says"),
        ("seed.x", r"no setting 'seed.x'"),
        ("fcan.", r"no setting 'fcan.'"),
    ],
)
def test_a_setting_that_is_none_is_told_with_its_neighbours(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_setting(key)
