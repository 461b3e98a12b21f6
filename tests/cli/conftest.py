"""A store with two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcsp.store.store import Store
from tests.store_fixture import build_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(tmp_path / "store")
