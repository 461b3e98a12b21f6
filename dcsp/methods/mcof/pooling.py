"""Features averaged over superpixels (method 3), without bringing them to image size.

Dimension letters: B images, K channels, H×W image pixels, h×w feature cells, R superpixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pool_regions(features_BKhw: Tensor, regions_BHW: Tensor, counts: Sequence[int]) -> Tensor:
    """Mean of the features over each superpixel, as if they were brought to the image first.

    Equal to bilinear upsampling (the outermost cells on the outermost pixels: cell i is centred on
    pixel i × output stride) and averaging over each superpixel's mask, so that superpixels smaller
    than a cell get features of their own; K×H×W values are never made. Differentiable in the
    features.

    Args:
        features_BKhw: Floating point, any range, on any device.
        regions_BHW: Integer ids 0..R−1 of each image, on the same device.
        counts: Superpixels R of each image.

    Returns:
        (sum of R, K) float32 (float64 for such features), image after image; a superpixel without
        pixels has zeros.

    Raises:
        ValueError: Batches differ, or an id is not within its image's count.
    """
    weights = pooling_weights(regions_BHW, features_BKhw.shape[-2:], counts)
    if len(features_BKhw) != len(regions_BHW):
        raise ValueError(f"{len(features_BKhw)} feature maps for {len(regions_BHW)} images.")
    channels = features_BKhw.shape[1]
    cells = features_BKhw.permute(0, 2, 3, 1).reshape(-1, channels)
    dtype = torch.promote_types(cells.dtype, torch.float32)
    # Sparse products have no bfloat16, which autocast would turn both sides into.
    with torch.autocast(cells.device.type, enabled=False):
        pooled: Tensor = torch.sparse.mm(weights.to(dtype), cells.to(dtype))
    return pooled


def pooling_weights(regions_BHW: Tensor, size: Sequence[int], counts: Sequence[int]) -> Tensor:
    """The matrix that :func:`pool_regions` multiplies feature cells with.

    A pixel at the fractions (y, x) between four cells gives them (1−y)(1−x), (1−y)x, y(1−x) and
    yx. The pixels of one superpixel between the same four cells are added up first, by their
    number and their sums of y, x and yx: a few thousand groups in place of the pixels.

    Args:
        regions_BHW: Integer ids 0..R−1 of each image.
        size: (h, w) of the feature maps.
        counts: Superpixels R of each image.

    Returns:
        Sparse (sum of R, B·h·w) float64, coalesced, on the regions' device; rows sum to 1.

    Raises:
        ValueError: An image has no count, or an id is not within its count.
    """
    height, width = size
    firsts_B = _first_rows(regions_BHW, counts)
    device, batch = regions_BHW.device, len(regions_BHW)
    top_H, y_H = _between(regions_BHW.shape[1], height, device)
    left_W, x_W = _between(regions_BHW.shape[2], width, device)
    image_B = torch.arange(batch, device=device)[:, None, None]
    corner_BHW = (image_B * height + top_H[:, None]) * width + left_W
    keys_BHW = (regions_BHW + firsts_B[:, None, None]) * (batch * height * width) + corner_BHW
    # Sorting is what takes time: neighbours in a row mostly share their key and sort as one.
    runs, run = torch.unique_consecutive(keys_BHW, return_inverse=True)
    keys_G, group_of_run = torch.unique(runs, return_inverse=True)
    group = group_of_run[run]

    ones_HW = torch.ones(regions_BHW.shape[1:], dtype=torch.float64, device=device)
    moments = (ones_HW, y_H[:, None] * ones_HW, x_W * ones_HW, y_H[:, None] * x_W)
    number, y, x, yx = (
        torch.bincount(group.ravel(), moment.expand(group.shape).reshape(-1), len(keys_G))
        for moment in moments
    )
    row = keys_G // (batch * height * width)
    corner = keys_G % (batch * height * width)
    # Where there is no further cell, the fraction and with it the weight is 0: stay on this one.
    right, below = int(width > 1), width * int(height > 1)
    rows = row.repeat(4)
    columns = torch.cat([corner, corner + right, corner + below, corner + below + right])
    areas = torch.bincount(row, number, sum(counts))
    values = torch.cat([number - y - x + yx, x - yx, y - yx, yx]) / areas[rows]
    shape = (sum(counts), batch * height * width)
    # Every index lies within the shape by now; unless told so, torch warns that it does not check.
    return torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, shape, check_invariants=False
    ).coalesce()


def _first_rows(regions_BHW: Tensor, counts: Sequence[int]) -> Tensor:
    """The row of each image's superpixel 0, (B,) int64."""
    if len(counts) != len(regions_BHW):
        raise ValueError(f"{len(counts)} counts of superpixels for {len(regions_BHW)} images.")
    counts_B = torch.tensor(counts, device=regions_BHW.device)
    flat = regions_BHW.flatten(1)
    if bool(((flat.amin(1) < 0) | (flat.amax(1) >= counts_B)).any()):
        raise ValueError(f"The ids of superpixels are not all within their counts {list(counts)}.")
    return counts_B.cumsum(0) - counts_B


def _between(pixels: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each pixel of a side, the cell before it and the fraction of the way to the next.

    The cell before is never the last one, unless that is the only one.
    """
    position = torch.arange(pixels, dtype=torch.float64, device=device)
    position *= (cells - 1) / max(1, pixels - 1)
    before = position.floor().clamp(max=max(0, cells - 2))
    return before.long(), position - before
