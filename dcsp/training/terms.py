"""What every loss is made of: a sum with its count, and maps at the cells of a score map.

Dimensions: B images of a rank, h, w score map, H, W crop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Term(NamedTuple):
    """One loss on one rank: the mean over all ranks is sum of ``total`` over sum of ``number``.

    Attributes:
        total: Scalar float32 with gradient.
        number: Scalar float32 without gradient: how many values ``total`` adds up.
    """

    total: Tensor
    number: Tensor


def at_cells(labels_BHW: Tensor, height: int, width: int) -> Tensor:
    """Labels of the pixels that the cells of a score map are centred on.

    Cell i looks at pixel i × output stride: the grid on which score maps are upsampled again at
    inference.

    Args:
        labels_BHW: Any dtype.
        height: Cells of the score map, downwards.
        width: Cells of the score map, across.

    Returns:
        (B, height, width), a view.

    Raises:
        ValueError: No output stride brings a crop of this size to that many cells.
    """
    down, across = _stride(labels_BHW.shape[-2], height), _stride(labels_BHW.shape[-1], width)
    return labels_BHW[:, ::down, ::across]


def around_cells(maps_BHW: Tensor, height: int, width: int) -> Tensor:
    """Mean of float maps over the window half an output stride around the centre of each cell.

    Args:
        maps_BHW: Float.
        height: Cells of the score map, downwards.
        width: Cells of the score map, across.

    Returns:
        (B, height, width).

    Raises:
        ValueError: No output stride brings a crop of this size to that many cells.
    """
    strides = (_stride(maps_BHW.shape[-2], height), _stride(maps_BHW.shape[-1], width))
    reach = (strides[0] // 2, strides[1] // 2)
    window = (2 * reach[0] + 1, 2 * reach[1] + 1)
    return F.avg_pool2d(maps_BHW[:, None], window, strides, reach, count_include_pad=False)[:, 0]


def inside_boxes(valid_B4: Tensor, height: int, width: int) -> Tensor:
    """Bool (B, H, W): the pixels within each (top, left, bottom, right) box."""
    top, left, bottom, right = valid_B4.T[:, :, None]
    rows = torch.arange(height, device=valid_B4.device)
    columns = torch.arange(width, device=valid_B4.device)
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    inside_BHW: Tensor = down[:, :, None] & across[:, None, :]
    return inside_BHW


def _stride(pixels: int, cells: int) -> int:
    """Output stride: the one power of two of which ``pixels`` gives that many cells."""
    stride = 1
    while -(-pixels // stride) > cells:
        stride *= 2
    if -(-pixels // stride) != cells:
        raise ValueError(f"A score map of {cells} cells does not belong to {pixels} pixels.")
    return stride
