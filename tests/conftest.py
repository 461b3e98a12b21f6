"""What holds for every test."""

from __future__ import annotations

import hypothesis
import pytest

pytest_plugins = ["tests.stores"]

# A busy machine takes longer: how long an example takes says nothing about what is tested.
hypothesis.settings.register_profile("dcsp", deadline=None)
hypothesis.settings.load_profile("dcsp")


_CLUSTERS = {"cluster", "no_cluster", "finished"}
"""Fixtures of tests that start clusters of Ray, or end the one of their process."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For ``pytest -n 2 --dist loadgroup`` (``make test``), which shares groups out.

    Tests on clusters share one, and two at once would be too much for a laptop: they are one
    process's work. The others go by file, as fixtures are made for a file.
    """
    for item in items:
        fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
        on_cluster = item.get_closest_marker("cluster") or _CLUSTERS.intersection(fixtures)
        group = "cluster" if on_cluster else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
