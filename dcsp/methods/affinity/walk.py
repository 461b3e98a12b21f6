"""Affinities of nearby cells, and the random walk that spreads scores along them (method 2.3, 2.4).

The matrix of the walk has one row a cell and is never held densely, nor raised to a power: it is
applied to the maps, all classes together.

Dimensions: P pairs a cell takes part in as first end, B images, K feature channels, h, w cells of
the map at output stride 8, N = h·w, n score maps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Offset = tuple[int, int]
"""(dy, dx) in cells from the first end of a pair to its second: dy > 0, or dy = 0 and dx > 0."""

_ACCURACY = 1e-6  # what the walk may be wrong by, as a share of the largest score
_BLOCK_CPU = 1 << 18  # values worked on at once: about what a core's cache holds
_BLOCK_GPU = 1 << 26  # there, few launches count for more than small buffers

# Only conversions and products are used, which have long been stable.
warnings.filterwarnings("ignore", r"Sparse CS[CR] tensor support is in beta", UserWarning)


def pair_offsets(radius: int) -> tuple[Offset, ...]:
    """Offsets nearer than ``radius`` cells in a half plane, so that each pair occurs once.

    There are 34 for radius 5 and 152 for radius 10.
    """
    reach = range(1 - radius, radius)
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in reach
        if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius
    )


def pair_distances(features_BKhw: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """Mean over channels of |f_i − f_j|: what a_ij is the exponential of (method 2.3).

    The memory is that of features and result: neither forward nor backward holds P × K maps.

    Args:
        features_BKhw: Float; half precision is widened to float32 first.
        offsets: P offsets from i to j.

    Returns:
        (B, P, h, w) float32, or float64 where the features are; infinite where j is outside.

    Raises:
        ValueError: An offset is not of the half plane.
    """
    features = features_BKhw if features_BKhw.dtype == torch.float64 else features_BKhw.float()
    height, width = features.shape[-2:]
    shifts = _shifts(offsets, height, width)
    distances_BPN: Tensor = _PairDistances.apply(features.flatten(2), shifts)  # type: ignore[no-untyped-call]
    outside_Phw = ~inside(offsets, height, width, features.device)
    return distances_BPN.view(len(features), *outside_Phw.shape).masked_fill(outside_Phw, torch.inf)


def pair_affinities(features_Khw: Tensor, offsets: Sequence[Offset]) -> Tensor:
    """a_ij = exp(−mean over channels of |f_i − f_j|) of one image (method 2.3).

    Returns:
        (P, h, w) float32, or float64 where the features are, in (0, 1]; 0 where j is outside.

    Raises:
        ValueError: An offset is not of the half plane.
    """
    return pair_distances(features_Khw[None], offsets)[0].neg().exp()


def inside(
    offsets: Sequence[Offset], height: int, width: int, device: torch.device | None = None
) -> Tensor:
    """Bool (P, h, w): the cells whose partner lies on the map."""
    pairs_P2 = torch.tensor(offsets, dtype=torch.long, device=device).reshape(-1, 2)
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)
    partner_row = rows + pairs_P2[:, :1, None]
    partner_column = columns + pairs_P2[:, 1:, None]
    found: Tensor = (partner_row < height) & (partner_column >= 0) & (partner_column < width)
    return found


def second_ends(values_Bhw: Tensor, offsets: Sequence[Offset], outside: int) -> Tensor:
    """(B, P, h, w): of each pair, the value at j, laid at i; ``outside`` where there is none.

    Raises:
        ValueError: An offset is not of the half plane.
    """
    height, width = values_Bhw.shape[-2:]
    values_BN = values_Bhw.flatten(1)
    found_BPN = values_BN.new_full((len(values_BN), len(offsets), height * width), outside)
    for pair, shift in _fitting(_shifts(offsets, height, width)):
        found_BPN[:, pair, :-shift] = values_BN[:, shift:]
    outside_Phw = ~inside(offsets, height, width, values_Bhw.device)
    return found_BPN.view(len(values_BN), *outside_Phw.shape).masked_fill(outside_Phw, outside)


def transition(affinities_Phw: Tensor, offsets: Sequence[Offset], beta: float = 8.0) -> Tensor:
    """T = A D⁻¹ of method 2.4: A holds a_ij^β, 1 on its diagonal, and D the column sums of A.

    A is symmetric, so Tᵀ = D⁻¹ A: its row i says how much of each cell goes into the mean that
    cell i becomes.

    Args:
        affinities_Phw: Float in [0, 1]; what lies outside the map is not read.
        offsets: Where the partner of each of the P maps is.
        beta: Power that separates strong from weak affinities.

    Returns:
        N×N sparse CSC float64 with at most 2P + 1 entries a column, which sum to 1.

    Raises:
        ValueError: Affinities and offsets do not fit each other, or one is not of the half plane.
    """
    count, height, width = affinities_Phw.shape
    if count != len(offsets):
        raise ValueError(f"{count} affinity maps do not belong to {len(offsets)} offsets.")
    cells, device = height * width, affinities_Phw.device
    outside_Phw = ~inside(offsets, height, width, device)
    power_PN = affinities_Phw.double().pow(beta).masked_fill_(outside_Phw, 0.0).flatten(1)
    fitting = _fitting(_shifts(offsets, height, width))
    shifts = sorted({0, *(s for _, s in fitting), *(-s for _, s in fitting)})
    slot = {shift: index for index, shift in enumerate(shifts)}
    weights_QN = power_PN.new_zeros(len(shifts), cells)
    weights_QN[slot[0]] = 1.0
    for pair, shift in fitting:
        # Two offsets of a narrow map may share a shift, but never at the same cell.
        weights_QN[slot[shift], :-shift] += power_PN[pair, :-shift]
        weights_QN[slot[-shift], shift:] += power_PN[pair, :-shift]
    weights_QN /= weights_QN.sum(dim=0)
    weights_NQ = weights_QN.T.contiguous()
    there = weights_NQ.view(-1).nonzero().squeeze(1)
    # int32: several times as fast as int64 in CPU products.
    steps = torch.tensor(shifts, dtype=torch.int32, device=device)
    rows_NQ = torch.arange(cells, dtype=torch.int32, device=device)[:, None] + steps
    starts = torch.zeros(cells + 1, dtype=torch.int32, device=device)
    starts[1:] = weights_QN.count_nonzero(dim=0).cumsum(0)
    return torch.sparse_csc_tensor(
        starts,
        rows_NQ.view(-1).index_select(0, there),
        weights_NQ.view(-1).index_select(0, there),
        (cells, cells),
        check_invariants=False,  # holds by construction
    )


@torch.no_grad()
def random_walk(
    affinities_Phw: Tensor,
    offsets: Sequence[Offset],
    scores_nhw: Tensor,
    beta: float = 8.0,
    steps: int = 256,
) -> Tensor:
    """Spread scores along affinities: vec(M*)ᵀ = vec(M)ᵀ T^t for every map M (method 2.4).

    A map stands as a row before T, whose columns sum to 1: each step makes every cell the mean
    of its neighbours, weighted by affinity. That is the paper's row-normalised D⁻¹ A before a
    column. So a constant map stays as it is, scores stay within their range (to 1e-6 of the
    largest) and the sum over cells, each weighted with its column sum in D, is kept.

    T^t is not stepped through but expanded in Chebyshev polynomials (:func:`walk_polynomial`):
    about √(2t ln(1/ε)) products give what t would. All is done in float64: hundreds of products
    in float32 are wrong by up to 1e-4 where weak and strong affinities lie side by side.

    Args:
        affinities_Phw: Float in [0, 1], on the device to work on.
        offsets: Where the partner of each of the P maps is.
        scores_nhw: Any number of maps, on the same device.
        beta: As for :func:`transition`.
        steps: t, at least 0.

    Returns:
        nhw in the dtype of the scores, wrong by at most 1e-6 of the largest |score|.

    Raises:
        ValueError: Sizes do not fit each other, or ``steps`` is negative.
    """
    if scores_nhw.shape[1:] != affinities_Phw.shape[1:]:
        raise ValueError(
            f"Scores of {tuple(scores_nhw.shape[1:])} cells do not belong to affinities of "
            f"{tuple(affinities_Phw.shape[1:])}."
        )
    walk_NN = transition(affinities_Phw, offsets, beta).t()
    # Cut-off terms count at most the tail in the norm weighted by D, whose entries are within
    # [1, 2P + 1]: at a single cell, at most √(ΣD / min D) times that.
    coefficients = walk_polynomial(
        steps, _ACCURACY / math.sqrt((2 * len(offsets) + 1) * max(1, len(walk_NN)))
    )
    earlier_Nn = scores_nhw.double().flatten(1).T.contiguous()
    result_Nn = earlier_Nn * coefficients[0]
    if len(coefficients) > 1:
        latest_Nn = walk_NN @ earlier_Nn
        result_Nn += latest_Nn * coefficients[1]
    for coefficient in coefficients[2:]:
        # T_{k+1}(x) = 2x T_k(x) − T_{k−1}(x)
        following_Nn = torch.addmm(earlier_Nn, walk_NN, latest_Nn, beta=-1, alpha=2)
        earlier_Nn, latest_Nn = latest_Nn, following_Nn
        result_Nn.add_(latest_Nn, alpha=coefficient)
    return result_Nn.T.to(scores_nhw.dtype).reshape(scores_nhw.shape)


def walk_polynomial(steps: int, tolerance: float) -> list[float]:
    """Chebyshev coefficients of x^t, without those at the end that sum to ``tolerance`` or less.

    x^t = Σ_k 2^{1−t} C(t, (t−k)/2) T_k(x) over k = t, t − 2, … with half of it for k = 0. All
    coefficients are positive, and since |T_k| ≤ 1 on [−1, 1], where the eigenvalues of a walk lie,
    those left out count at most their sum.

    Args:
        steps: t, at least 0.
        tolerance: Largest error on [−1, 1].

    Returns:
        Coefficients of T_0, T_1, …: at most t + 1 of them.

    Raises:
        ValueError: ``steps`` is negative.
    """
    if steps < 0:
        raise ValueError(f"A walk of {steps} steps: give 0 or more.")
    first = steps % 2
    k = np.arange(first, steps - 1, 2)
    falling = np.cumprod((steps - k) / (steps + k + 2))  # each binomial from the one before
    weights = np.concatenate([[1.0 if first else 0.5], falling])
    weights /= weights.sum()  # x^t is 1 at x = 1, as is every T_k
    tails = np.cumsum(weights[::-1])[::-1]
    kept = max(1, int(np.count_nonzero(tails > tolerance)))
    coefficients: NDArray[np.float64] = np.zeros(first + 2 * kept - 1)
    coefficients[first::2] = weights[:kept]
    return [float(value) for value in coefficients]


def _shifts(offsets: Sequence[Offset], height: int, width: int) -> tuple[int, ...]:
    """How many cells further on, row by row, the partners are; 0 where none is on the map."""
    wrong = [offset for offset in offsets if offset <= (0, 0)]
    if wrong:
        raise ValueError(
            f"Offset {wrong[0]} is not of the half plane dy > 0, or dy = 0 and dx > 0."
        )
    return tuple(dy * width + dx if dy < height and abs(dx) < width else 0 for dy, dx in offsets)


def _fitting(shifts: Sequence[int]) -> list[tuple[int, int]]:
    """(index, shift) of the pairs that have a partner anywhere on the map."""
    return [(index, shift) for index, shift in enumerate(shifts) if shift]


class _PairDistances(torch.autograd.Function):
    """Mean |f_i − f_j| over channels at each shift of flattened maps; rows run into each other.

    Written out because autograd would keep the P × K differences.
    """

    @staticmethod
    def forward(ctx: Any, features_BKN: Tensor, shifts: tuple[int, ...]) -> Tensor:
        """(B, P, N), 0 where no cell is that much further on."""
        ctx.save_for_backward(features_BKN)
        ctx.shifts = shifts
        images, channels, cells = features_BKN.shape
        total_BPN = features_BKN.new_zeros(images, len(shifts), cells)
        for block_BkN in torch.split(features_BKN, _block(features_BKN), dim=1):
            for pair, shift in _fitting(shifts):
                difference = block_BkN[..., :-shift] - block_BkN[..., shift:]
                total_BPN[:, pair, :-shift] += difference.abs_().sum(dim=1)
        return total_BPN.div_(channels)

    @staticmethod
    def backward(ctx: Any, grad_BPN: Tensor) -> tuple[Tensor, None]:
        """±1 / K for each channel of the two ends, 0 where they are equal."""
        (features_BKN,) = ctx.saved_tensors
        grad_BKN = torch.zeros_like(features_BKN)
        grad_BPN = grad_BPN / features_BKN.shape[1]
        step = _block(features_BKN)
        blocks = zip(
            torch.split(features_BKN, step, 1), torch.split(grad_BKN, step, 1), strict=True
        )
        for block_BkN, result_BkN in blocks:
            for pair, shift in _fitting(ctx.shifts):
                sign = (block_BkN[..., :-shift] - block_BkN[..., shift:]).sign_()
                sign *= grad_BPN[:, pair, None, :-shift]
                result_BkN[..., :-shift] += sign
                result_BkN[..., shift:] -= sign
        return grad_BKN, None


def _block(features_BKN: Tensor) -> int:
    """Channels to work on at once."""
    values = _BLOCK_GPU if features_BKN.is_cuda else _BLOCK_CPU
    return max(1, values // max(1, features_BKN.shape[0] * features_BKN.shape[2]))
