"""The comparison job: what it refuses, what runs share, and what a second submission does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dcsp.errors import ConfigError
from jobs import compare
from tests.jobs.running import states
from tests.jobs.tiny import TRAIN

GAMMA = "cues.dcsp.gamma_low=0.2,0.4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "cues.dcsp.gamma_low"], "must look like"),
        (["--grid", "seed=1,2"], "--seeds N gives the seeds"),
        (["--grid", GAMMA, "--seeds", "0"], "--seeds is 0"),
        (["--grid", "fcan.steps=1,none"], "The combination steps=none is refused"),
        (["--grid", "network.weights=random,/no/where.pth"], "weights=/no/where.pth is refused"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(
    config_file: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    store = tmp_path / "store"
    with pytest.raises(ConfigError, match=message):
        compare.main(["--config", str(config_file), f"store={store}", *arguments])
    assert not store.exists()


def test_a_dry_run_leaves_no_trace(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    command = ["--config", str(config_file), "--grid", GAMMA, "--seeds", "2", f"store={store}"]
    compare.main([*command, "--dry-run"])
    out = capsys.readouterr().out
    assert out.startswith("4 runs with ") and "will run, shared" in out
    assert not store.exists()


def test_shared_stages_are_computed_once_and_nothing_twice(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    command = ["--config", str(config_file), "--grid", GAMMA, "--until", "cues_phase0"]
    command += [f"store={store}", "cluster.executor=here"]
    compare.main(command)
    told = capsys.readouterr()
    assert told.err.count(f"saliency: {TRAIN} ok") == told.err.count("saliency: done before") == 1
    assert told.err.count("fcan: done before") == 1
    assert told.err.count(f"cues_phase0: {TRAIN} ok") == 2
    assert len(list((store / "checkpoints").glob("*/complete.json"))) == 1, "one FCAN"
    assert len(list((store / "cues").iterdir())) == 2
    assert not (store / "CURRENT").exists(), "a comparison publishes nothing"

    (directory,) = (store / "comparisons").iterdir()
    rows = json.loads((directory / "table.json").read_text())["rows"]
    assert [row["settings"] for row in rows] == [{"gamma_low": "0.2"}, {"gamma_low": "0.4"}]
    for row in rows:
        (run,) = (store / "runs" / run_id for run_id in row["runs"])
        measured = json.loads((run / "metrics.json").read_text())["cues"]["phase0"]
        assert (run / "report" / "index.html").exists()
        for name in ("miou", "coverage"):
            figure = row["figures"][f"cue_{name}"]
            assert (figure["n"], figure["mean"]) == (1, pytest.approx(measured[name]))
        assert row["figures"]["val_miou"] is None
        assert row["figures"]["seconds_per_image"]["mean"] > 0
        assert row["figures"]["training_seconds"]["mean"] > 0
    lines = list(csv.DictReader((directory / "table.csv").read_text().splitlines()))
    assert [line["gamma_low"] for line in lines] == ["0.2", "0.4"]
    assert "data:image" in (directory / "gallery.html").read_text()
    assert (directory / "table.md").read_text() in told.out
    assert f"comparison: {directory}/index.html" in told.out

    before = states(store)
    compare.main(command)
    again = capsys.readouterr()
    assert "every run of this comparison has ended before" in again.err
    assert again.err.count("done before") == 2 * 3 and "rows in" not in again.err
    after = states(store)
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert all(name.startswith("comparisons/") for name in changed)
    assert told.out.endswith(again.out), "after what Ray may have said"
