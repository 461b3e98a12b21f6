"""Two processes with one global batch train as one process does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dcsp.config import PrecisionSettings, TrainSettings
from dcsp.training.stream import rank_batch
from tests.training.tiny import tiny_batch, tiny_network, trainer_of

STEPS = 5
BATCH = 5  # ranks of unequal share
CASES: list[tuple[Any, Any]] = [("joint", "sgd"), ("fcan", "adamw")]


def train(rank: int, world: int, objective: Any, optimizer: Any) -> dict[str, Any]:
    settings = TrainSettings(
        steps=STEPS,
        batch=BATCH,
        crop=32,
        optimizer=optimizer,
        learning_rate=1e-2,
        saliency_weight=1.0,
    )
    precision = PrecisionSettings(autocast="fp32")
    trainer = trainer_of(tiny_network(), settings, objective, precision, rank, world)
    first = sum(rank_batch(BATCH, other, world) for other in range(rank))
    share = slice(first, first + rank_batch(BATCH, rank, world))
    figures, gradients = [], []
    for step in range(STEPS):
        batch = {name: tensor[share] for name, tensor in tiny_batch(BATCH, step).items()}
        figures.append(trainer.step(batch))
        gradients.append([p.grad.clone() for p in trainer.network.parameters()])
    return {"figures": figures, "gradients": gradients}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save([train(rank, 2, *case) for case in CASES], f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Of each rank, the results of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_two_ranks_equal_one(two_ranks: list[list[dict[str, Any]]], case: int) -> None:
    alone = train(0, 1, *CASES[case])
    for result in (results[case] for results in two_ranks):
        for ours, expected in zip(result["figures"], alone["figures"], strict=True):
            assert ours == pytest.approx(expected, abs=1e-4)
        for ours, expected in zip(result["gradients"], alone["gradients"], strict=True):
            for gradient, reference in zip(ours, expected, strict=True):
                torch.testing.assert_close(gradient, reference, atol=1e-4, rtol=1e-4)
