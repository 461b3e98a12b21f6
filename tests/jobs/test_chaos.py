"""A selection of the kill matrix (``make chaos``): stages of the real chain lose a process or node.

In the default suite a driver is killed while it labels (test_predict.py), and processes of mining
and of trainings are lost, hang or diverge (test_failures.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clusters import LibraryNodes
from tests.chaos.laboratory import Laboratory
from tests.chaos.matrix import Case
from tests.jobs.running import Run

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("case", "rows", "submissions"),
    [
        (Case("saliency", "node", 0), 16, 1),
        (Case("cues_phase0", "worker", 1), 12, 1),
        (Case("predictions", "driver", 2), 16, 2),
    ],
)
def test_no_row_is_lost_duplicated_or_mixed(
    finished: Run, no_cluster: None, tmp_path: Path, case: Case, rows: int, submissions: int
) -> None:
    with LibraryNodes() as nodes:
        outcome = Laboratory(finished, nodes, tmp_path, ("cluster.actors=3",)).run(case)
    assert outcome.ledger.clean, outcome
    assert outcome.ledger.expected == rows
    assert outcome.submissions == submissions, "only one whose driver is killed is submitted again"
