"""Stores of the shipped configs stay valid: their fingerprints change only by intent."""

from __future__ import annotations

import pytest

from dcsp.config.file import load_config
from dcsp.run.plan import draft_plan
from tests.source_tree import ROOT

SHIPPED = {
    "demo": "demo-287713a05014",
    "folder": "folder-b6e46bfc2ace",
    "voc12_resnet101": "voc12-resnet101-2ca276ccf0bb",
    "voc12_vgg16": "voc12-vgg16-5aa51fa1a7f2",
    "voc676_cam": "voc676-cam-dec29f4ca264",
    "voc676_quick": "voc676-4dca489e497c",
    "web_relabel": "web-ec13ce8a81a7",
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
