"""The resizing that every stage shares: of images, of maps, of labels.

Torch is imported where it is needed: workers that read images start without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_rgb(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image bilinearly, with antialiasing where it shrinks.

    Args:
        image: HWC uint8 RGB.
        height: New height in pixels, at least 1.
        width: New width in pixels, at least 1.

    Returns:
        (height, width, 3) uint8 RGB; a copy even when the size does not change.
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)


def resize_map(
    map_: NDArray[np.floating], height: int, width: int, *, corners: bool = False
) -> NDArray[np.float32]:
    """Resize one map or a stack of maps bilinearly, without antialiasing.

    Args:
        map_: HW or CHW float, any range.
        height: New height in pixels, at least 1.
        width: New width in pixels, at least 1.
        corners: The outermost values lie on the outermost pixels, as those of a score map do: its
            cell i is centred on image pixel i × output stride. Otherwise values fill cells of equal
            size, as the pixels of a resized image do.

    Returns:
        (height, width) or (C, height, width) float32 within the range of ``map_``, up to rounding;
        a copy even when the size does not change.

    Raises:
        ValueError: ``map_`` is neither HW nor CHW.
    """
    if map_.ndim not in (2, 3):
        raise ValueError(f"a map must be HW or CHW, got the shape {map_.shape}")
    if map_.shape[-2:] == (height, width):
        return map_.astype(np.float32)
    if map_.ndim == 3 and map_.shape[0] == 0:
        return np.zeros((0, height, width), np.float32)
    stack = map_ if map_.ndim == 3 else map_[None]
    resized = _resize_corners(stack, height, width) if corners else _resize(stack, height, width)
    return resized.reshape(*map_.shape[:-2], height, width)


def shrink_map(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Maps (HW or CHW float32) with no side longer than ``side``, antialiased where they shrink."""
    import torch

    height, width = maps.shape[-2:]
    height, width = limit_side(height, width, side)
    if maps.shape[-2:] == (height, width):
        return maps
    stack = torch.from_numpy(np.ascontiguousarray(maps)).reshape(-1, 1, *maps.shape[-2:])
    with torch.inference_mode():
        shrunk = torch.nn.functional.interpolate(
            stack, size=(height, width), mode="bilinear", antialias=True
        )
    result: NDArray[np.float32] = shrunk.numpy().reshape(*maps.shape[:-2], height, width)
    return result


def resize_labels(labels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a label map to the nearest label (half-pixel centres), never mixing ids.

    Args:
        labels: HW uint8.
        height: New height in pixels, at least 1.
        width: New width in pixels, at least 1.

    Returns:
        (height, width) uint8; a copy even when the size does not change.
    """
    if labels.shape == (height, width):
        return labels.copy()
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return np.asarray(labels[rows[:, None], columns[None, :]])


def grid_cells(side: float, stride: int) -> int:
    """Score-map cells of a side: cell i is centred on pixel i × stride, the last on the last pixel.

    There are at least two. At 321 pixels and stride 8 these are the paper's 41.
    """
    return max(1, round((side - 1) / stride)) + 1


def grid_side(side: float, stride: int) -> int:
    """The number of pixels nearest to ``side`` that its cells fit exactly."""
    return (grid_cells(side, stride) - 1) * stride + 1


def limit_side(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """The size an image gets when its longest side may have at most ``max_side`` pixels.

    Returns:
        (height, width): unchanged where it fits or ``max_side`` is None, else scaled down with
        the shape kept, each side rounded and at least 1.
    """
    if max_side is None or max(height, width) <= max_side:
        return height, width
    factor = max_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resize_corners(maps: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    from dcsp.images.upsampling import Upsampling

    return Upsampling(maps.astype(np.float32), height, width).rows()


def _resize(maps: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    import torch

    stack = torch.from_numpy(np.array(maps, dtype=np.float32, order="C"))
    with torch.inference_mode():
        resized: NDArray[np.float32] = torch.nn.functional.interpolate(
            stack[None], size=(height, width), mode="bilinear"
        ).numpy()
    return resized
