"""The whole chain: what it leaves, what a second run does, what a changed setting touches."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dcsp.errors import ConfigError
from jobs import relabel
from tests.jobs.running import Run, parts, states
from tests.jobs.tiny import TRAIN, VAL

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STAGES = ["saliency", "fcan", "cues_phase0", "joint_phase0", "cues_phase1", "joint_phase1"]
STAGES += ["predictions", "trust"]


@pytest.fixture
def copy(cluster: object, finished: Run, tmp_path: Path) -> Run:
    """The finished run in a store that a test may write to."""
    store = tmp_path / "store"
    shutil.copytree(finished.store, store)
    return Run(store, finished.config_file, "", "")


def test_metrics_have_what_other_checks_read(finished: Run) -> None:
    metrics = finished.metrics
    assert 0 <= metrics["cues"]["phase0"]["miou"] <= 100
    assert 0 <= metrics["cues"]["phase0"]["miou_s1"] <= 100
    assert 0 <= metrics["cues"]["phase1"]["miou"] <= 100
    assert 0 <= metrics["val"]["miou"] <= 100
    assert 0 <= metrics["val"]["miou_crf"] <= 100
    assert "background" in metrics["val"]["per_class"]
    assert "ball" in metrics["val"]["per_class"]
    assert set(metrics["seconds"]) >= {"ingest", *STAGES, "evaluation"}
    assert all(seconds > 0 for seconds in metrics["seconds"].values())


def test_every_image_has_a_row_in_every_table(finished: Run) -> None:
    rows = finished.metrics["rows"]
    for table in ("cues", "cues_phase0", "cues_phase1"):
        assert sum(rows[table].values()) == TRAIN, table
    for table in ("corpus", "saliency", "predictions"):
        assert sum(rows[table].values()) == TRAIN + VAL, table
    assert all(set(counts) == {"ok", "skipped", "error"} for counts in rows.values())
    assert rows["cues"]["error"] == 0


def test_the_run_is_published_with_its_report_and_config(finished: Run) -> None:
    run = json.loads((finished.directory / "run.json").read_text())
    assert run["run_id"] == finished.run_id == finished.metrics["run_id"]
    assert run["config"]["fcan"]["steps"] == 12
    assert [step["title"] for step in run["steps"]] == STAGES
    report = (finished.directory / "report" / "index.html").read_text()
    assert finished.run_id in report
    assert "data:image" in report
    assert f"report: {finished.directory}/report/index.html" in finished.out
    assert "cluster: 1 node(s)" in finished.err


@pytest.mark.parametrize("phase", [0, 1])
def test_cue_rows_decode_with_pillow(finished: Run, phase: int) -> None:
    seen = 0
    for file in sorted(finished.table(f"cues_phase{phase}").glob("*.parquet")):
        for row in pq.read_table(file).to_pylist():
            assert row["status"] == "ok" and row["error"] is None and row["phase"] == phase
            label = np.asarray(Image.open(io.BytesIO(row["label"])))
            assert label.shape == (row["height"], row["width"])
            assert set(np.unique(label)) <= {0, 255, *row["tags"]}
            seen += 1
    assert seen == TRAIN


def test_derived_parts_are_aligned_with_the_corpus(finished: Run) -> None:
    corpus = finished.store / "corpus" / "parts"
    for title in ("saliency", "cues_phase0", "cues_phase1", "predictions"):
        for file in finished.table(title).glob("*.parquet"):
            ids = pq.read_table(file, columns=["image_id"])
            assert ids.equals(pq.read_table(corpus / file.name, columns=["image_id"]))


def test_no_temporary_file_and_no_resumable_state_is_left(finished: Run) -> None:
    names = list(states(finished.store))
    assert not [name for name in names if ".tmp-" in name or "/resumable/" in name]


def test_a_second_run_computes_nothing_and_says_so(
    copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = states(copy.store)
    relabel.main(["--config", str(copy.config_file), f"store={copy.store}"])
    err = capsys.readouterr().err
    assert "nothing to do" in err
    assert "nothing changed in the source" in err
    assert all(f"\n{stage}: done before" in err for stage in STAGES)
    after = states(copy.store)
    assert {name for name in after if after[name] != before.get(name)} <= {"CURRENT"}


def test_a_changed_gamma_recomputes_the_cues_and_what_follows(
    copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = states(copy.store)
    change = "cues.dcsp={gamma_low: 0.2, gamma_high: 0.3, attention: {scales: [1.0]}}"
    relabel.main(
        ["--config", str(copy.config_file), f"store={copy.store}", change, "--until", "cues_phase0"]
    )
    err = capsys.readouterr().err
    assert "saliency: done before" in err and "fcan: done before" in err
    assert f"cues_phase0: {TRAIN} ok" in err and "joint" not in err.split("ingest:")[-1]
    after = states(copy.store)
    assert {name: after[name] for name in before} == before
    new = copy.plan(change).step("cues_phase0").stage.key.directory
    assert {name for name in after if name not in before} == {
        f"{new}/{name}" for name in [*parts(copy.store / new), "stage.json", "statuses.json"]
    } | {str(file.relative_to(copy.store)) for file in (copy.store / new).glob("complete-*.json")}
    assert copy.plan().run_id == copy.run_id, "what is published has not changed"
    later = [copy.plan(change).step(t).stage.key for t in STAGES]
    old = [copy.plan().step(t).stage.key for t in STAGES]
    assert [a == b for a, b in zip(later, old, strict=True)] == [True] * 2 + [False] * 6


def test_dry_run_before_lists_the_stages_and_computes_nothing(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel.main(["--config", str(config_file), f"store={tmp_path / 'new'}", "--dry-run"])
    out = capsys.readouterr().out
    assert "gamma_low: 0.4" in out
    assert all(f"\n{stage} " in out for stage in ["ingest", *STAGES])
    assert "will run" in out and " done" not in out.replace("done before", "")
    assert not (tmp_path / "new").exists()


def test_dry_run_after_says_what_is_done(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(finished.config_file), f"store={finished.store}", "--dry-run"]
    relabel.main([*arguments, "joint.steps=3"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for stage in ("ingest", "saliency", "fcan", "cues_phase0"):
        assert lines[stage].endswith("done"), lines[stage]
    for stage in ("joint_phase0", "cues_phase1", "joint_phase1", "predictions"):
        assert "will run" in lines[stage]
    assert "12 images to go" in lines["joint_phase0"]
    assert f" {TRAIN + VAL} images to go" in lines["predictions"]


def test_until_must_name_a_stage(finished: Run) -> None:
    with pytest.raises(ConfigError, match=r"--until 'cues' is none of saliency, fcan"):
        relabel.main(
            ["--config", str(finished.config_file), f"store={finished.store}", "--until", "cues"]
        )
