"""Some of the fuzzed inputs, and that what they look for would be found."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.dirty.fuzz import run_case, run_cases, tally
from tests.dirty.kinds import KINDS
from tests.dirty.planted import OK


def test_fuzzed_inputs_are_taken_or_refused() -> None:
    counts, failures = tally(run_cases(range(25 * len(KINDS))))
    assert not failures
    assert sum(counts.values()) == 25 * len(KINDS)
    taken = {kind for kind, outcome in counts if outcome == OK}
    refused = {kind for kind, outcome in counts if outcome != OK}
    assert refused == {kind.name for kind in KINDS}
    assert {"jpeg", "png", "tags.csv", "shard.parquet", "shard.tar", "http answer"} <= taken


def test_a_case_is_decided_by_its_number(tmp_path: Path) -> None:
    found = [[run_case(n, tmp_path / f"{turn}{n}") for n in range(2 * len(KINDS))] for turn in "ab"]
    assert found[0] == found[1]


def faulty(number: int, folder: Path) -> tuple[str, str]:
    """A case of each fault, and good ones between them."""
    match number:
        case 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 3:
            time.sleep(60)
        case 5:
            raise KeyError("escaped")
    return "kind", OK


def test_crashes_and_hangs_are_found_and_cost_their_case_alone() -> None:
    results = list(run_cases(range(8), seconds=1.0, case=faulty))
    outcomes = {number: outcome for number, _, outcome in results}
    assert outcomes == {
        **dict.fromkeys((0, 2, 4, 6, 7), OK),
        1: "crashed: exit -11",
        3: "hung",
        5: "crashed: KeyError('escaped')",
    }
    assert len(results) == 8
    _, failures = tally(iter(results))
    assert [failure.split(" ")[1] for failure in failures] == ["1", "3", "5"]
