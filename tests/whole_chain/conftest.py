"""One run of the whole chain in this process, which the tests here look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dcsp.config import RunConfig
from dcsp.run.plan import Plan
from dcsp.store.store import Store
from tests import chain
from tests.threads import torch_threads


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    store: Store
    plan: Plan
    metrics: dict[str, Any]
    config: RunConfig


@pytest.fixture(scope="package")
def one_thread() -> Iterator[None]:
    """One thread adds numbers up in one order: equal inputs give equal bytes."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="package")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    return chain.write_detector(tmp_path_factory.mktemp("detector") / "brightness.onnx")


@pytest.fixture(scope="package")
def done(tmp_path_factory: pytest.TempPathFactory, detector: str, one_thread: None) -> Done:
    store = tmp_path_factory.mktemp("chain") / "store"
    config = chain.chain_config(store, detector)
    plan = chain.compute(config, chain.ingest(config))
    return Done(Store(store), plan, chain.evaluate(plan), config)
