"""Affinities and the random walk, against loops over pairs and dense matrices in float64."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

from dcsp.methods.affinity.walk import (
    inside,
    pair_affinities,
    pair_distances,
    pair_offsets,
    random_walk,
    second_ends,
    transition,
    walk_polynomial,
)

sides = st.integers(1, 8)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def reference_affinity(features: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """N×N, from the definition: all cells nearer than ``radius``, and the cell itself."""
    cells = list(product(range(features.shape[1]), range(features.shape[2])))
    matrix = np.zeros((len(cells), len(cells)))
    for (i, p), (j, q) in product(enumerate(cells), repeat=2):
        if np.hypot(p[0] - q[0], p[1] - q[1]) < radius:
            matrix[i, j] = np.exp(-np.abs(features[:, *p] - features[:, *q]).mean())
    return matrix


def reference_walk(
    matrix: NDArray[np.float64], scores: NDArray[np.float64], beta: float, steps: int
) -> NDArray[np.float64]:
    columns = matrix**beta
    columns /= columns.sum(axis=0, keepdims=True)
    flat = scores.reshape(len(scores), columns.shape[0]) @ np.linalg.matrix_power(columns, steps)
    return flat.reshape(scores.shape)


@pytest.mark.parametrize(("radius", "count"), [(1, 0), (2, 4), (5, 34), (10, 152)])
def test_offsets_are_half_of_the_disc(radius: int, count: int) -> None:
    offsets = pair_offsets(radius)
    assert len(offsets) == count
    both = {(0, 0), *offsets, *((-dy, -dx) for dy, dx in offsets)}
    reach = range(-radius, radius + 1)
    assert both == {p for p in product(reach, reach) if np.hypot(*p) < radius}


@settings(max_examples=25)
@given(sides, sides, st.integers(1, 5), st.sampled_from([2, 3, 5]))
def test_affinities_are_those_of_every_pair_on_the_map(
    height: int, width: int, channels: int, radius: int
) -> None:
    features = noise(channels, height, width)
    offsets = pair_offsets(radius)
    found = pair_affinities(features, offsets)
    matrix = reference_affinity(features.double().numpy(), radius)
    expected = np.zeros((len(offsets), height, width))
    for (k, (dy, dx)), y, x in product(enumerate(offsets), range(height), range(width)):
        if y + dy < height and 0 <= x + dx < width:
            expected[k, y, x] = matrix[y * width + x, (y + dy) * width + x + dx]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert torch.equal(inside(offsets, height, width), torch.from_numpy(expected > 0))


def test_the_blocks_of_channels_make_no_difference() -> None:
    features = noise(700, 20, 30)  # several blocks
    offsets = pair_offsets(3)
    found = pair_distances(features[None], offsets)[0]
    for k, (dy, dx) in enumerate(offsets):
        first = features[:, : 20 - dy, max(0, -dx) : 30 - max(0, dx)]
        second = features[:, dy:, max(0, dx) : 30 + min(0, dx)]
        ours = found[k, : 20 - dy, max(0, -dx) : 30 - max(0, dx)]
        torch.testing.assert_close(ours, (first - second).abs().mean(dim=0))


def test_gradients_of_distances_are_those_of_finite_differences() -> None:
    features = noise(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    offsets = pair_offsets(3)
    there = inside(offsets, 4, 5)
    assert torch.autograd.gradcheck(lambda f: pair_distances(f, offsets)[:, there], (features,))


def test_half_precision_is_widened_before_differences_are_taken() -> None:
    features = noise(1, 8, 5, 5).bfloat16()
    assert torch.equal(
        pair_distances(features, [(0, 1)]), pair_distances(features.float(), [(0, 1)])
    )


def test_second_ends_are_laid_at_the_first() -> None:
    values = torch.arange(6).view(1, 2, 3)
    found = second_ends(values, [(0, 1), (1, -1), (5, 0)], outside=99)
    assert found[0].tolist() == [
        [[1, 2, 99], [4, 5, 99]],
        [[99, 3, 4], [99, 99, 99]],
        [[99, 99, 99], [99, 99, 99]],
    ]


@pytest.mark.parametrize("offset", [(0, 0), (0, -1), (-1, 2)])
def test_offsets_of_the_other_half_plane_are_refused(offset: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="half plane"):
        pair_affinities(noise(1, 3, 3), [offset])


@settings(max_examples=25)
@given(sides, sides, st.sampled_from([2, 5]), st.floats(0.5, 16), st.integers(0, 99))
def test_columns_of_the_transition_sum_to_one(
    height: int, width: int, radius: int, beta: float, seed: int
) -> None:
    features = noise(2, height, width, seed=seed)
    offsets = pair_offsets(radius)
    found = transition(pair_affinities(features, offsets), offsets, beta)
    matrix = reference_affinity(features.double().numpy(), radius) ** beta
    dense = found.to_dense().numpy()
    np.testing.assert_allclose(dense.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(dense, matrix / matrix.sum(axis=0), atol=1e-6)


def test_a_cell_has_at_most_69_entries() -> None:
    offsets = pair_offsets(5)
    found = transition(pair_affinities(noise(2, 20, 20), offsets), offsets)
    torch._validate_sparse_csc_tensor_args(
        found.ccol_indices(), found.row_indices(), found.values(), found.shape
    )
    assert found.ccol_indices().diff().max() == 69


@settings(max_examples=60)
@given(
    sides,
    sides,
    st.sampled_from([2, 3, 5]),
    st.floats(0.5, 16),
    st.one_of(st.integers(0, 12), st.sampled_from([63, 256, 257, 1000])),
    st.integers(0, 3),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_the_walk_is_that_of_the_dense_matrix(
    height: int,
    width: int,
    radius: int,
    beta: float,
    steps: int,
    maps: int,
    dtype: torch.dtype,
) -> None:
    features = noise(3, height, width, seed=height * width, dtype=dtype)
    scores = noise(maps, height, width, seed=steps, dtype=dtype)
    offsets = pair_offsets(radius)
    found = random_walk(pair_affinities(features, offsets), offsets, scores, beta, steps)
    matrix = reference_affinity(features.double().numpy(), radius)
    expected = reference_walk(matrix, scores.double().numpy(), beta, steps)
    assert found.dtype == dtype
    # Scores reach 4; affinities of float32 have their own rounding before the power.
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5 if dtype.itemsize == 4 else 4e-6)


def test_the_walk_is_right_where_affinities_are_hard_edges() -> None:
    """Islands of one cell beside cells of 69 neighbours: the norms differ most."""
    offsets = pair_offsets(5)
    features = (noise(1, 24, 24) > 1.5).double() * 3 * noise(1, 24, 24, seed=1).abs().double()
    scores = noise(2, 24, 24, seed=2).double()
    affinities = pair_affinities(features, offsets)
    dense = transition(affinities, offsets).to_dense().numpy()
    expected = scores.flatten(1).numpy() @ np.linalg.matrix_power(dense, 256)
    assert 1 / dense.diagonal().min() > 60 and dense.diagonal().max() > 0.9
    found = random_walk(affinities, offsets, scores).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    rounded = random_walk(affinities.float(), offsets, scores.float()).flatten(1).numpy()
    np.testing.assert_allclose(rounded, expected, atol=2e-5)


@settings(max_examples=15)
@given(sides, sides, st.sampled_from([0, 1, 7, 256]))
def test_constants_and_weighted_mass_are_kept(height: int, width: int, steps: int) -> None:
    offsets = pair_offsets(5)
    affinities = pair_affinities(noise(2, height, width, dtype=torch.float64), offsets)
    scores = noise(2, height, width, dtype=torch.float64).sigmoid()
    scores[1] = 0.7
    found = random_walk(affinities, offsets, scores, steps=steps)
    torch.testing.assert_close(found[1], torch.full_like(found[1], 0.7), atol=1e-6, rtol=0)
    assert found[0].min() > scores[0].min() - 1e-6 and found[0].max() < scores[0].max() + 1e-6
    strength = 1 / transition(affinities, offsets).to_dense().diagonal()  # a cell's own a is 1
    before, after = scores[0].flatten() @ strength, found[0].flatten() @ strength
    assert after.item() == pytest.approx(before.item(), rel=1e-5)


def test_values_that_lie_outside_the_map_are_not_read() -> None:
    offsets = pair_offsets(3)
    clean = pair_affinities(noise(2, 5, 6), offsets)
    dirty = clean.masked_fill(~inside(offsets, 5, 6), 0.9)
    scores = noise(1, 5, 6)
    assert torch.equal(random_walk(dirty, offsets, scores), random_walk(clean, offsets, scores))


def test_scores_do_not_cross_where_there_is_no_affinity() -> None:
    features = torch.zeros(1, 6, 10)
    features[..., 5:] = 50.0
    scores = torch.zeros(1, 6, 10)
    scores[0, 3, 2] = 1.0
    offsets = pair_offsets(5)
    found = random_walk(pair_affinities(features, offsets), offsets, scores)
    assert found[..., 5:].abs().max() < 1e-7
    assert found[..., :5].min() > 0.5 / 30


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 17, 255, 256, 1024])
@pytest.mark.parametrize("tolerance", [0.0, 1e-10, 1e-4])
def test_the_polynomial_is_the_power(steps: int, tolerance: float) -> None:
    x = np.linspace(-1, 1, 4001)
    coefficients = walk_polynomial(steps, tolerance)
    assert len(coefficients) <= steps + 1
    values = chebyshev.chebval(x, coefficients)
    np.testing.assert_allclose(values, x**steps, atol=tolerance + 1e-12)


def test_256_steps_cost_less_than_half_as_many_products() -> None:
    assert len(walk_polynomial(256, 1e-9)) < 110


def test_sizes_that_do_not_fit_are_refused() -> None:
    offsets = pair_offsets(2)
    affinities = pair_affinities(noise(1, 4, 5), offsets)
    with pytest.raises(ValueError, match="do not belong"):
        random_walk(affinities, offsets, noise(1, 5, 4))
    with pytest.raises(ValueError, match="4 affinity maps do not belong to 34"):
        transition(affinities, pair_offsets(5))
    with pytest.raises(ValueError, match="-1 steps"):
        random_walk(affinities, offsets, noise(1, 4, 5), steps=-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_walks_as_a_processor_does() -> None:
    offsets = pair_offsets(5)
    features, scores = noise(8, 47, 63), noise(3, 47, 63)
    here = random_walk(pair_affinities(features, offsets), offsets, scores)
    there = random_walk(pair_affinities(features.cuda(), offsets), offsets, scores.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, atol=2e-5, rtol=0)


LARGE = """
import resource
import torch
from dcsp.methods.affinity.walk import pair_affinities, pair_offsets, random_walk
offsets = pair_offsets(5)
affinities = pair_affinities(torch.randn(64, 375, 500) / 8, offsets)
found = random_walk(affinities, offsets, torch.rand(4, 375, 500))
assert 0 <= found.min() and found.max() <= 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_twelve_megapixels_leave_half_of_four_gibibytes_free() -> None:
    run = subprocess.run([sys.executable, "-c", LARGE], check=True, capture_output=True)
    assert int(run.stdout) < 2 * 1024 * 1024  # KiB
