"""What corrections decide: what learns from cues, and what follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.config.file import parse_config
from dcsp.run.plan import build_plan
from dcsp.stages.step import Role
from tests.run.test_plan import AFTER_CUES, SNAPSHOT, plan, prints


def test_corrections_decide_what_learns_from_cues_and_what_follows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"what somebody drew")
    before, after = plan(), plan({"corrections": str(tmp_path)})
    old, new = prints(before), prints(after)
    assert [*new] == ["corrections", *old]
    assert [title for title in old if old[title] != new[title]] == AFTER_CUES
    assert before.run_id != after.run_id
    (step,) = after.of(Role.CORRECTIONS)
    assert set(step.splits) == {"train", "val"}
    assert build_plan(after.config, SNAPSHOT).run_id == after.run_id
    (tmp_path / "a.png").unlink()  # a run that was planned, or written down, needs no file
    assert build_plan(after.config, SNAPSHOT).run_id == after.run_id
    assert build_plan(parse_config(after.config.model_dump()), SNAPSHOT).run_id == after.run_id


@pytest.mark.parametrize("method", ["affinity", "mcof", "builtin", "dcsp"])
def test_every_network_that_learns_from_cues_learns_from_corrections(
    method: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"what somebody drew")
    made = plan({"corrections": str(tmp_path), "cues": {"method": method}})
    (corrections,) = made.of(Role.CORRECTIONS)
    for step in made.trainings:
        learned = [table.name for table in step.stage.tables if table.sample == "cue"]
        assert learned[:1] == (["corrections"] if step.role is not Role.FCAN else [])
        reads = corrections.stage.key.fingerprint in step.reads
        assert reads == (step.role is not Role.FCAN)
    assert len(made.of(Role.HELPER)) >= (method in ("affinity", "mcof"))
