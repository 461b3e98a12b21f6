"""The random walk as its authors run it: a dense matrix, squared until its power is reached."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def walk(
    affinities: Tensor, offsets: Sequence[tuple[int, int]], scores: Tensor, beta: float, log_t: int
) -> Tensor:
    """T^(2^log_t) by squaring, then applied to the maps (nhw)."""
    matrix = dense(affinities, offsets) ** beta
    matrix /= matrix.sum(dim=0, keepdim=True)
    for _ in range(log_t):
        matrix = matrix @ matrix
    return (scores.flatten(1) @ matrix).view_as(scores)


def dense(affinities: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Affinities (Phw) as a symmetric matrix of all cells, 1 on the diagonal."""
    height, width = affinities.shape[1:]
    cell = torch.arange(height * width).view(height, width)
    matrix = torch.eye(height * width)
    for values, (dy, dx) in zip(affinities, offsets, strict=True):
        left, right = max(0, -dx), width - max(0, dx)
        i, j = cell[: height - dy, left:right], cell[dy:, left + dx : right + dx]
        matrix[i, j] = matrix[j, i] = values[: height - dy, left:right]
    return matrix
