"""A selection of the kill matrix (``make chaos``): stages of the real chain lose a process or node.

Drivers killed in saliency and in a training: test_resume.py; processes of trainings that are lost,
hang or diverge: test_failures.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clusters import LibraryNodes
from tests.chaos.laboratory import Laboratory
from tests.chaos.matrix import Case
from tests.jobs.running import Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SELECTION = [
    Case("saliency", "node", 0),
    Case("cues_phase0", "worker", 1),
    Case("predictions", "driver", 2),
]


def test_no_row_is_lost_duplicated_or_mixed(
    finished: Run, no_cluster: None, tmp_path: Path
) -> None:
    with LibraryNodes() as nodes:
        laboratory = Laboratory(finished, nodes, tmp_path, ("cluster.actors=3",))
        outcomes = [laboratory.run(case) for case in SELECTION]
    assert [o.case for o in outcomes if not o.ledger.clean] == [], outcomes
    assert [outcome.ledger.expected for outcome in outcomes] == [16, 12, 16]
    assert outcomes[2].submissions == 2, "a job whose driver is killed does not go on by itself"
