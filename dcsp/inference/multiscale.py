"""Several views of each image, scaled and mirrored, fused pixel by pixel (paper 4.1, 4.3, 5.1).

Views are fused as they are made, on the device, at the size of the score map of scale 1: memory
does not grow with their number. Whole images are looked at, never crops.

Dimension letters: B images, N maps, H×W image pixels at scale 1, h×w score-map pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dcsp.config import AdaptSettings, PrecisionSettings, PredictSettings
from dcsp.config.base import Fuse
from dcsp.images.resize import grid_cells, grid_side, limit_side, resize_rgb
from dcsp.networks.folding import fold
from dcsp.networks.precision import arithmetic, autocast, keep_float32, memory_format

Net = TypeVar("Net", bound=torch.nn.Module)


class ScoresLike(Protocol):
    """What a network puts out; see :class:`dcsp.networks.deeplab.Scores`."""

    @property
    def score_map(self) -> Tensor:
        """f, B×(C+1)×h×w logits."""
        ...

    @property
    def attention(self) -> Tensor:
        """V, B×C×h×w."""
        ...


class Scorer(Protocol):
    """What scores images; see :class:`dcsp.networks.deeplab.SegmentationNetwork`."""

    @property
    def output_stride(self) -> int:
        """Image pixels per score-map pixel."""
        ...

    @property
    def grid_stride(self) -> int:
        """Images have a size of which so many pixels are a cell, exactly."""
        ...

    def __call__(self, image_BCHW: Tensor, /) -> ScoresLike:
        """Scores of uint8 RGB images."""
        ...


@dataclass(frozen=True)
class Views:
    """Which views of an image are looked at, what is taken from each, and how they are fused.

    Attributes:
        output: ``scores`` (raw f, C+1 maps), ``attention`` (raw V, C maps) or ``probabilities``
            (softmax of f, C+1 maps).
        scales: Factors of the image's size.
        flip: Also look at the mirrored image at each scale.
        fuse: Pixel-wise ``max`` or ``mean`` of the views.
        relu: Clip negative values to 0 in each view.
    """

    output: Literal["scores", "attention", "probabilities"]
    scales: tuple[float, ...]
    flip: bool = False
    fuse: Fuse = "max"
    relu: bool = False

    def __len__(self) -> int:
        """Number of views of an image."""
        return len(self.scales) * (1 + self.flip)

    @classmethod
    def of(cls, settings: AdaptSettings | PredictSettings) -> Views:
        """The views that labels are drawn from; see :func:`dcsp.inference.scores.probabilities`."""
        output: Literal["scores", "probabilities"] = (
            "scores" if settings.fuse == "max" else "probabilities"
        )
        return cls(output, settings.scales, settings.flip, settings.fuse)


def prepare(network: Net, precision: PrecisionSettings, device: str | torch.device) -> Net:
    """Make a network ready for inference, in place: it can no longer be trained or saved.

    It is put on its device, in evaluation mode and in the memory format that suits both, and batch
    norms are folded into convolutions (:mod:`dcsp.networks.folding`).
    """
    network = network.eval().to(device).requires_grad_(False)
    keep_float32()
    fold(network, arithmetic(precision, device))
    layout = memory_format(network, precision, device)
    return network.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def score_views(
    network: Scorer,
    images: Sequence[NDArray[np.uint8]],
    views: Views,
    *,
    max_side: int | None,
    precision: PrecisionSettings,
    device: str | torch.device = "cpu",
    batch: int = 8,
) -> list[NDArray[np.float32]]:
    """Fused score maps or attention of whole images.

    Args:
        network: On ``device``, as :func:`prepare` leaves it.
        images: HWC uint8 RGB of any sizes; those of equal size share a batch.
        views: What to look at.
        max_side: Longest side at scale 1 in pixels; larger images are scaled down to it first.
        precision: Autocast and memory format.
        device: Where the network is.
        batch: Most images in one batch.

    Returns:
        For each image, in the order given, (N, h, w) float32. The outermost cells lie on the
        outermost pixels: with r = grid stride / output stride (1 without a decoder) h is
        r · round((H − 1) / grid stride) + 1 of the image at scale 1. Attention channel c−1 is
        class c; score channel 0 is the background.
    """
    device = torch.device(device)
    layout = memory_format(network, precision, device)
    fused: list[tuple[list[int], Tensor]] = []
    with torch.inference_mode(), autocast(precision, device):
        for (height, width), members in _batches(images, max_side, batch):
            stack = np.stack([resize_rgb(images[i], height, width) for i in members])
            pixels_BCHW = _to_device(torch.from_numpy(stack), device).permute(0, 3, 1, 2)
            maps_BNhw = _fuse(network, pixels_BCHW, views, layout)
            fused.append((members, _to_host(maps_BNhw)))
        _wait(device)
    results = {i: m for members, maps in fused for i, m in zip(members, maps.numpy(), strict=True)}
    return [results[i] for i in range(len(images))]


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy that a GPU makes while the CPU goes on; on the CPU the tensor itself."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _to_host(tensor: Tensor) -> Tensor:
    """On the CPU; what comes from a GPU may be read after :func:`_wait`."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _wait(device: torch.device) -> None:
    """Until the GPU has done what this thread asked of it, not what others did since."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).record_event().synchronize()


def _batches(
    images: Sequence[NDArray[np.uint8]], max_side: int | None, batch: int
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """(Size at scale 1, indices of images) with at most ``batch`` images of equal size each."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        groups.setdefault(limit_side(height, width, max_side), []).append(index)
    for size, members in groups.items():
        for start in range(0, len(members), batch):
            yield size, members[start : start + batch]


def _fuse(
    network: Scorer, pixels_BCHW: Tensor, views: Views, layout: torch.memory_format
) -> Tensor:
    height, width = pixels_BCHW.shape[-2:]
    stride, finer = network.grid_stride, network.grid_stride // network.output_stride
    down, across = ((grid_cells(side, stride) - 1) * finer + 1 for side in (height, width))
    size = (down, across)
    fused: Tensor | None = None
    for scale in views.scales:
        scaled = _scale(pixels_BCHW, scale, stride)
        for mirrored in (False, True) if views.flip else (False,):
            view = scaled.flip(-1) if mirrored else scaled
            maps = _take(network(view.contiguous(memory_format=layout)), views)
            maps = _resize(maps.flip(-1) if mirrored else maps, size)
            if fused is None:
                fused = maps.clone()
            else:
                fused = torch.maximum(fused, maps) if views.fuse == "max" else fused.add_(maps)
    assert fused is not None  # settings have at least one scale
    return fused.div_(len(views)) if views.fuse == "mean" else fused


def _take(scores: ScoresLike, views: Views) -> Tensor:
    """The wanted output of one view, float32."""
    if views.output == "attention":
        maps = scores.attention.float()
    else:
        maps = scores.score_map.float()
        if views.output == "probabilities":
            maps = maps.softmax(dim=1)
    return maps.relu() if views.relu else maps


def _scale(pixels_BCHW: Tensor, scale: float, stride: int) -> Tensor:
    """Images at a scale, at the nearest size that the score map's cells fit exactly."""
    height, width = pixels_BCHW.shape[-2:]
    size = (grid_side(height * scale, stride), grid_side(width * scale, stride))
    if size == (height, width):
        return pixels_BCHW
    # Only the CPU resizes bytes; there it is several times faster than on floats.
    source = pixels_BCHW if pixels_BCHW.device.type == "cpu" else pixels_BCHW.float()
    return functional.interpolate(
        source, size=size, mode="bilinear", align_corners=False, antialias=True
    )


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def on_grid(image: NDArray[np.uint8], stride: int) -> Tensor:
    """An image (HWC) as a batch of one, at the nearest size that the cells of a grid fit exactly.

    Returns:
        1×3×H×W uint8.
    """
    height, width = (grid_side(side, stride) for side in image.shape[:2])
    return torch.from_numpy(resize_rgb(image, height, width)).permute(2, 0, 1)[None]
