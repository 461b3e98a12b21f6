"""The random walk of AffinityNet from affinities to spread scores, and how it grows with images."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from dcsp.methods.affinity.walk import pair_affinities, pair_offsets, random_walk
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs
from tests.bench.peers import dense_walk

STRIDE = 8
OFFSETS = pair_offsets(5)
BETA, LOG_T = 8.0, 8
MAPS = 3  # background and two classes
SIZES = [(375, 500), (750, 1000), (1500, 2000), (3000, 4000)]


def walk(inputs: Inputs) -> Row:
    """T^256 applied against T^256 by squaring."""
    height, width = inputs.pick(96, 375), inputs.pick(128, 500)
    affinities, scores = _case(height, width)
    pair = compare(
        lambda: random_walk(affinities, OFFSETS, scores, BETA, 2**LOG_T),
        lambda: dense_walk.walk(affinities, OFFSETS, scores, BETA, LOG_T),
        rounds=inputs.pick(1, 5),
    )
    return pair.row(
        "random_walk",
        1,
        "image",
        images=f"made-up affinities, {width}×{height} at stride {STRIDE}, {MAPS} maps",
        peer_is="T^256 by 8 squarings of a dense float32 matrix, same threads",
        largest_difference=float((pair.our_result - pair.peer_result).abs().max()),
        cpu_microseconds_per_cell=_growth(SIZES[: inputs.pick(1, len(SIZES))]),
    )


def _growth(sizes: list[tuple[int, int]]) -> dict[str, float]:
    """What a cell costs in images of these sizes: the same, if the time is linear in pixels.

    Processor time, since large images take seconds, in which others use the machine as well.
    """
    costs = {}
    for height, width in sizes:
        affinities, scores = _case(height, width)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            random_walk(affinities, OFFSETS, scores, BETA, 2**LOG_T)
            seconds.append(time.process_time() - start)
        costs[f"{width}x{height}"] = min(seconds) / scores[0].numel() * 1e6
    return costs


def _case(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Affinities and scores of an image of this size; the cost does not depend on their values."""
    generator = torch.Generator().manual_seed(0)
    cells = (-(-height // STRIDE), -(-width // STRIDE))
    features = torch.randn(8, *cells, generator=generator) / 4
    return pair_affinities(features, OFFSETS), torch.rand(MAPS, *cells, generator=generator)


ROWS: dict[str, Callable[[Inputs], Row]] = {"random_walk": walk}
