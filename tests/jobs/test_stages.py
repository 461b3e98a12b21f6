"""Each arrow of the chain as a job of its own, in order and out of order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dcsp.errors import ConfigError, DcspError, StoreError
from jobs import evaluate, ingest, mine_cues, train
from tests.jobs.running import Run, parts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_jobs_run_alone_give_the_tables_of_the_whole_chain(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That chain was on Ray, and these jobs are not."""
    store = tmp_path / "store"
    once = ["--config", str(finished.config_file), f"store={store}", "cues.adapt.rounds=0"]
    once += ["cluster.executor=here"]

    def refused(main: Callable[[Sequence[str]], None], arguments: list[str], then: str) -> None:
        with pytest.raises(
            StoreError, match=f"is not done in .* run `{then}` with the same config"
        ):
            main(arguments)

    ingest.main(once)
    assert "train: 12 images in 4 parts" in capsys.readouterr().out
    assert parts(store / "corpus/parts") == parts(finished.store / "corpus/parts")

    refused(evaluate.main, once, "dcsp relabel")
    refused(train.main, [*once, "--stage", "joint_phase0"], "dcsp train --stage fcan")
    refused(mine_cues.main, once, "dcsp train --stage fcan")
    train.main([*once, "--stage", "fcan"])
    refused(train.main, [*once, "--stage", "joint_phase0"], "dcsp mine --phase 0")
    mine_cues.main(once)
    assert "cues: " in capsys.readouterr().out
    mine_cues.main([*once, "selftags.use=train", "selftags.min_support=1"])
    told = capsys.readouterr()
    assert "\ncues_phase0: done before" in told.err, "they leave other cues alone"
    assert "selftags: thresholds for" in told.err and "(split val)" in told.err
    assert "\nselfcues_phase0: 0 ok, 12 skipped, 0 error rows" in told.err  # all have given tags
    for title in ("saliency", "cues_phase0"):
        name = finished.table(title).relative_to(finished.store)
        assert parts(store / name) == parts(finished.store / name) != {}, title

    joint = finished.table("joint_phase0").relative_to(finished.store)
    shutil.copytree(finished.store / joint, store / joint)  # one training is enough
    train.main([*once, "--stage", "joint_phase0"])
    assert "joint_phase0: done before" in capsys.readouterr().err
    evaluate.main(once)
    assert "report: " in capsys.readouterr().out
    assert (store / "CURRENT").read_text().strip() != finished.run_id


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (mine_cues.main, ["--phase", "2"], r"--phase 2 is not in 0 … 1, the phases of the config"),
        (train.main, ["--stage", "joint"], r"--stage 'joint' is none of fcan, joint_phase0"),
    ],
)
def test_stages_that_are_not_there_are_refused(
    finished: Run, main: Callable[[Sequence[str]], None], arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        main(["--config", str(finished.config_file), f"store={finished.store}", *arguments])
    assert isinstance(caught.value, DcspError)
