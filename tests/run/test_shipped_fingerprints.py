"""Stores of the shipped configs stay valid: their fingerprints change only by intent."""

from __future__ import annotations

import pytest

from dcsp.config.file import load_config
from dcsp.run.plan import draft_plan
from tests.source_tree import ROOT

SHIPPED = {
    "demo": "demo-d47ea5055377",
    "folder": "folder-7ef825565f04",
    "voc12_resnet101": "voc12-resnet101-a7cf450de08a",
    "voc12_vgg16": "voc12-vgg16-1ed4e2c3702f",
    "voc676_cam": "voc676-cam-243f809ab5f5",
    "voc676_quick": "voc676-5d2c0578aba2",
    "web_relabel": "web-d30908ced418",
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
