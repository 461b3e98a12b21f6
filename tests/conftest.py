"""What holds for every test."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.stores"]

# A busy machine takes longer: how long an example takes says nothing about what is tested.
hypothesis.settings.register_profile("dcsp", deadline=None)
hypothesis.settings.load_profile("dcsp")


class _JobsApart(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of jobs, which wait for clusters, are one process's work; other files are shared."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "jobs" if file.startswith("tests/jobs/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _JobsApart:
    """How ``pytest -n 2`` (``make test``) shares the tests out."""
    return _JobsApart(config, log)
