import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dcsp.cues.fusion import discover
from tests.bench.__main__ import ROWS, main
from tests.bench.harness import Row, compare, quartiles, table
from tests.bench.peers import reference


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
