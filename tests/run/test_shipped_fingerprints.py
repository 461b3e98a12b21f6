"""Stores of the shipped configs stay valid: their fingerprints change only by intent."""

from __future__ import annotations

import pytest

from dcsp.config.file import load_config
from dcsp.run.plan import draft_plan
from tests.source_tree import ROOT

SHIPPED = {
    "demo": "demo-672c176e4ea9",
    "folder": "folder-db0903d42474",
    "voc12_resnet101": "voc12-resnet101-98a3963b4447",
    "voc12_vgg16": "voc12-vgg16-92237881809d",
    "voc676_cam": "voc676-cam-df47a0f94961",
    "voc676_quick": "voc676-2a812d9b0e4e",
    "web_relabel": "web-c2baed7057a0",
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
