import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dcsp.cues.fusion import discover
from tests.bench import gpu
from tests.bench.__main__ import ROWS, main
from tests.bench.harness import Row, against, compare, quartiles, table
from tests.bench.peers import reference
from tests.bench.stages import Marks
from tests.bench.stubs import peak_memory

REPOSITORY = Path(__file__).parents[2]


def test_rows_that_are_named_are_measured_and_written(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    main(["--quick", "--scenes", "--out", str(out), "evaluate", "ingest"])
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == ["evaluate", "ingest"]
    for row in rows:
        assert set(row) == {"name", "ratio", "ours", "peer", "unit", "detail"}
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert row["ours"] > 0
        assert row["unit"] == "ms/image"
        assert "generated scenes" in row["detail"]["images"]
        assert row["detail"]["quick"] is True
        assert row["detail"]["machine"]["cpu"]
    assert rows[0]["detail"]["equal"] is True


def test_the_dense_walk_ends_where_ours_does(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    main(["--quick", "--scenes", "--out", str(out), "random_walk"])
    (row,) = json.loads(out.read_text(encoding="utf-8"))
    assert row["detail"]["largest_difference"] < 1e-4


def test_a_finished_store_is_known_without_reading_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    main(["--quick", "--scenes", "--out", str(out), "resume_listing"])
    (row,) = json.loads(out.read_text(encoding="utf-8"))
    assert (row["detail"]["rows"], row["detail"]["parts"]) == (25_000, 50)  # that both sides saw


@pytest.mark.slow  # benches of stages start a cluster each
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_stage_is_measured_as_jobs_run_it(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    # In a process of its own: Ray remembers the token of the first cluster that a process starts.
    command = [sys.executable, "-m", "tests.bench", "--quick", "--scenes", "--out", str(out)]
    subprocess.run([*command, "predict_end_to_end"], check=True, cwd=REPOSITORY)
    (row,) = json.loads(out.read_text(encoding="utf-8"))
    assert row["ours"] > 0 and row["peer"] > 0
    assert row["detail"]["images"] == "24 generated scenes"
    assert row["detail"]["start_up_seconds"] > 0


def test_an_unknown_row_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "bench.json"), "no_such_row"])
    message = capsys.readouterr().err
    assert all(name in message for name in ("no_such_row", *ROWS))


def test_both_sides_run_in_every_round_and_take_turns_at_going_first() -> None:
    calls: list[str] = []
    pair = compare(lambda: calls.append("ours"), lambda: calls.append("peer"), rounds=3, warmup=2)
    assert calls == ["ours", "peer"] * 3 + ["peer", "ours"] + ["ours", "peer"]
    assert len(pair.ours) == len(pair.peer) == 3


def test_a_row_holds_medians_per_item() -> None:
    pair = compare(lambda: 1, lambda: 2, rounds=1)
    row = type(pair)((0.1, 0.2, 9.0), (0.4, 1.0, 9.0), 1, 2).row("name", 10, "image", images="x")
    assert (row.ours, row.peer, row.ratio) == pytest.approx((20.0, 100.0, 5.0))
    assert row.detail["ratio_quartiles"] == pytest.approx((1.0, 5.0))
    assert row.detail["images"] == "x"
    assert "5.00" in table([row])


def test_a_row_without_rounds_has_no_spread_in_the_table() -> None:
    assert "40.00" in table([Row("bytes_per_image", 40.0, 50_000.0, 2_000_000.0, "bytes/image")])


def test_quartiles_of_few_values_are_their_extremes() -> None:
    assert quartiles([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


@pytest.mark.parametrize("tags", [[], [3], [2, 7, 9]])
def test_the_authors_loops_find_the_same_cues(tags: list[int]) -> None:
    rng = np.random.default_rng(len(tags))
    attention = rng.random((len(tags), 13, 17), np.float32)
    saliency = rng.random((13, 17), np.float32)
    found = reference.discover(attention, saliency.astype(np.float64), tags, 0.4)
    assert np.array_equal(found, discover(attention, saliency, tags, 0.4, 0.4))


def test_the_authors_loops_combine_and_erase_as_written_in_the_method() -> None:
    rng = np.random.default_rng(0)
    earlier, found = rng.random((2, 11, 7))
    image: NDArray[np.uint8] = rng.integers(0, 255, (11, 7, 3), np.uint8)
    assert np.array_equal(reference.combine(earlier, found), np.maximum(earlier, found))
    expected = image.copy()
    expected[found > 0.7] = reference.MEAN_COLOUR
    assert np.array_equal(reference.erase(image, found, 0.7), expected)


def test_the_bench_of_a_gpu_runs_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--quick", "--scenes", "--out", str(out)])
    written = json.loads(out.read_text(encoding="utf-8"))
    names = [reading["name"] for reading in written["readings"]]
    assert names == ["detector", "mining", "training"]
    for reading in written["readings"]:
        rate = written["matrix_flops_per_second"]
        assert reading["utilisation"] == pytest.approx(reading["flops_per_second"] / rate)
        assert reading["images_per_second"] > 0 and reading["busy"] is None
    assert "TFLOP/s" in capsys.readouterr().out


def test_a_gpu_is_busy_while_any_kernel_runs() -> None:
    assert gpu.covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == pytest.approx(4 / 6)
    assert gpu.covered([]) == 0


def test_start_up_and_the_end_of_a_stage_do_not_count() -> None:
    marks = Marks("stage", 60)
    marks.marks = [
        (0.0, 0),
        (100.0, 1),
        *((100.0 + 2 * n, 1 + n) for n in range(1, 54)),
        (999.0, 60),
    ]
    assert marks.seconds_each(1 / 6) == pytest.approx(2.0)
    assert marks.start_up == 100
    marks.marks = [(0.0, 0), (0.5, 0), (10.0, 20)]
    assert marks.seconds_each(1 / 6) == pytest.approx(0.5)


def test_a_peak_of_memory_is_the_processs_own() -> None:
    heavy = np.ones(300_000_000, np.uint8)
    command = [sys.executable, "-c", "from tests.bench.stubs import peak_memory as p; print(p())"]
    alone = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert peak_memory() > heavy.nbytes
    assert 0 < int(alone.stdout) < peak_memory()


def test_a_stage_beside_a_peer_is_compared_with_its_median() -> None:
    row = against("name", 2.0, [3.0, 4.0, 8.0], "image", images="some")
    assert (row.ratio, row.ours, row.peer, row.unit) == (2.0, 2000, 4000, "ms/image")
    assert row.detail == {"images": "some", "ratio_quartiles": (1.5, 4.0)}
