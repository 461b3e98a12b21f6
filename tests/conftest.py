"""What holds for every test."""

from __future__ import annotations

import ast
import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from jobs._watch import PATIENT_THREADS

# As jobs have it, before anything loads torch: tests run side by side.
os.environ.update({n: v for n, v in PATIENT_THREADS.items() if n not in os.environ})

pytest_plugins = ["tests.stores"]

# Whoever runs tests in the background may ignore Ctrl-C: they and their jobs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes longer: how long an example takes says nothing about what is tested.
hypothesis.settings.register_profile("dcsp", deadline=None)
hypothesis.settings.load_profile("dcsp")


_CLUSTERS = {"cluster", "no_cluster", "finished"}
"""Fixtures of tests that start clusters of Ray, or end the one of their process."""


class _ClustersApart(LoadScopeScheduling):  # type: ignore[misc]
    """Tests on clusters are one process's work: they share one, and two are too much for a laptop.

    The others are shared out by file, as fixtures are made for a file.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return "cluster" if test.partition("[")[0] in _on_clusters(file) else file


@cache
def _on_clusters(file: str) -> frozenset[str]:
    """Names of the tests of a file that have the mark or one of those fixtures."""
    if not file.startswith("tests/jobs/"):
        return frozenset()
    body = ast.parse((_ROOT / file).read_text()).body
    marked = any(_has_mark(node) for node in body if isinstance(node, ast.Assign))
    return frozenset(
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef)
        and (
            marked
            or _CLUSTERS.intersection(argument.arg for argument in node.args.args)
            or any(map(_is_of_cluster, node.decorator_list))
        )
    )


def _is_of_cluster(decorator: ast.expr) -> bool:
    """Not where only a slow one of the parameters is, which ``make test`` leaves out."""
    text = ast.unparse(decorator)
    return "cluster" in text and "slow" not in text


def _has_mark(node: ast.Assign) -> bool:
    return ast.unparse(node).startswith("pytestmark") and "mark.cluster" in ast.unparse(node)


_ROOT = Path(__file__).parents[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ClustersApart:
    """How ``pytest -n 2`` (``make test``) shares the tests out."""
    return _ClustersApart(config, log)
