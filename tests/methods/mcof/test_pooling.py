"""Pooled features against what they replace: torch's own bilinear upsampling, averaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from dcsp.images.resize import resize_map
from dcsp.methods.mcof.pooling import pool_regions, pooling_weights

seeds_of_tests = st.integers(0, 9999)


def random_regions(seed: int, height: int = 9, width: int = 11, count: int = 7) -> np.ndarray:
    """Ids 0..count−1 that all occur."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, count, height * width)
    ids[rng.permutation(height * width)[:count]] = np.arange(count)
    return ids.reshape(height, width).astype(np.int32)


def slow_pool(features: Tensor, regions: Tensor, counts: list[int]) -> Tensor:
    """Upsample, then average over each mask."""
    full = functional.interpolate(features, regions.shape[1:], mode="bilinear", align_corners=True)
    rows = []
    for image, ids, count in zip(full, regions, counts, strict=True):
        rows += [image[:, ids == region].mean(dim=1) for region in range(count)]
    return torch.stack(rows)


def random_batch(
    seed: int, image: tuple[int, int], cells: tuple[int, int], counts: list[int]
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(counts), 5, *cells, generator=generator, dtype=torch.float64)
    regions = [random_regions(seed + i, *image, count) for i, count in enumerate(counts)]
    return features, torch.from_numpy(np.stack(regions))


side = st.integers(1, 40)


@settings(max_examples=60)
@given(seeds_of_tests, side, side, st.integers(1, 9), st.integers(1, 9))
def test_pooling_is_upsampling_and_averaging(
    seed: int, height: int, width: int, rows: int, columns: int
) -> None:
    area = height * width
    counts = [min(area, 30), 1, min(area, 7)]
    features, regions = random_batch(seed, (height, width), (rows, columns), counts)
    expected = slow_pool(features, regions, counts)
    torch.testing.assert_close(pool_regions(features, regions, counts), expected)
    single = pool_regions(features.float(), regions, counts)
    torch.testing.assert_close(single, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stride", "cells"), [(8, (6, 9)), (16, (3, 5))])
def test_a_region_of_one_pixel_gets_the_feature_of_that_pixel(
    stride: int, cells: tuple[int, int]
) -> None:
    """Many regions a cell, and cell i on pixel i × stride, as score maps are brought to images."""
    size = ((cells[0] - 1) * stride + 1, (cells[1] - 1) * stride + 1)
    features = torch.randn(1, 4, *cells, generator=torch.Generator().manual_seed(0))
    regions = torch.arange(size[0] * size[1], dtype=torch.int32).reshape(1, *size)
    pooled = pool_regions(features, regions, [regions.numel()]).T.reshape(4, *size)
    torch.testing.assert_close(pooled[:, ::stride, ::stride], features[0])
    full = resize_map(features[0].numpy(), *size, corners=True)
    torch.testing.assert_close(pooled, torch.from_numpy(full), atol=1e-5, rtol=1e-5)


def test_weights_are_a_mean_of_the_cells_of_the_right_image() -> None:
    _, regions = random_batch(3, (20, 30), (4, 5), [6, 9])
    weights = pooling_weights(regions, (4, 5), [6, 9]).to_dense()
    assert weights.shape == (15, 40) and weights.min() > -1e-12
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(15, dtype=torch.float64))
    assert not weights[:6, 20:].any() and not weights[6:, :20].any()


def test_the_matrix_grows_with_regions_and_cells_not_with_pixels() -> None:
    blocks = np.kron(np.arange(100).reshape(10, 10), np.ones((32, 32)))
    regions = torch.from_numpy(blocks.astype(np.int32))[None]
    weights = pooling_weights(regions, (40, 40), [100])
    assert weights.values().numel() < 40 * 40 * 3


def test_gradients_are_those_of_upsampling_and_averaging() -> None:
    counts = [6, 9]
    features, regions = random_batch(5, (20, 30), (4, 5), counts)
    factors = torch.randn(15, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for pool in (pool_regions, slow_pool):
        leaf = features.clone().requires_grad_()
        (pool(leaf, regions, counts) * factors).sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_bfloat16_features_and_autocast_give_float32() -> None:
    counts = [6, 9]
    features, regions = random_batch(7, (20, 30), (4, 5), counts)
    features = features.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = slow_pool(features.double(), regions, counts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool_regions(features, regions, counts)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), expected, atol=1e-5, rtol=1e-5)
    pooled.sum().backward()
    assert features.grad is not None and features.grad.dtype == torch.bfloat16


def test_a_region_that_has_no_pixels_has_zeros() -> None:
    pooled = pool_regions(torch.ones(1, 2, 3, 3), torch.tensor([[[0, 2], [2, 2]]]), [4])
    assert pooled.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    counts = [30, 7]
    features, regions = random_batch(11, (33, 49), (5, 7), counts)
    leaf = features.float().cuda().requires_grad_()
    pooled = pool_regions(leaf, regions.cuda(), counts)
    expected = pool_regions(features.float(), regions, counts)
    torch.testing.assert_close(pooled.cpu(), expected, atol=1e-5, rtol=1e-5)
    pooled.sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_what_does_not_belong_together_is_refused() -> None:
    features, regions = random_batch(1, (8, 8), (2, 2), [4, 5])
    with pytest.raises(ValueError, match="1 counts of superpixels for 2 images"):
        pool_regions(features, regions, [5])
    with pytest.raises(ValueError, match="not all within their counts"):
        pool_regions(features, regions, [4, 4])
    with pytest.raises(ValueError, match="not all within their counts"):
        pool_regions(features, regions - 1, [4, 5])
    with pytest.raises(ValueError, match="1 feature maps for 2 images"):
        pool_regions(features[:1], regions, [4, 5])
