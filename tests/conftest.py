"""What holds for every test."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.stores"]

# A busy machine takes longer: how long an example takes says nothing about what is tested.
hypothesis.settings.register_profile("dcsp", deadline=None)
hypothesis.settings.load_profile("dcsp")


class _ClustersApart(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of jobs that share a cluster are one process's work; other files are shared out."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "cluster" if _has_cluster(file) else file


@cache
def _has_cluster(file: str) -> bool:
    return file.startswith("tests/jobs/") and "mark.cluster" in (_ROOT / file).read_text()


_ROOT = Path(__file__).parents[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ClustersApart:
    """How ``pytest -n 2`` (``make test``) shares the tests out."""
    return _ClustersApart(config, log)
