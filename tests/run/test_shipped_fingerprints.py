"""Stores of the shipped configs stay valid: their fingerprints change only by intent."""

from __future__ import annotations

import pytest

from dcsp.config.file import load_config
from dcsp.run.plan import draft_plan
from tests.source_tree import ROOT

SHIPPED = {
    "demo": "demo-b4291b24c6e5",
    "folder": "folder-717eb05d712e",
    "voc12_resnet101": "voc12-resnet101-ea2da3e9b00c",
    "voc12_vgg16": "voc12-vgg16-50baa0f04250",
    "voc676_cam": "voc676-cam-ab9f6e53abc1",
    "voc676_quick": "voc676-b6e6645a4a96",
    "web_relabel": "web-39bf1c93a22a",
}
"""Config → name of its run, a digest of the fingerprints of all steps. Who raises the version of a
stage, or edits a config, writes the new name down."""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_keeps_its_fingerprints(name: str) -> None:
    overrides = ["corpus.classes=[cat, dog]"] if name == "folder" else []
    config = load_config(ROOT / f"jobs/configs/{name}.yaml", overrides)
    assert draft_plan(config).run_id == SHIPPED[name]


def test_every_shipped_config_is_looked_at() -> None:
    assert {path.stem for path in (ROOT / "jobs/configs").glob("*.yaml")} == SHIPPED.keys()
