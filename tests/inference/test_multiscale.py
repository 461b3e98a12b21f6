"""Views of an image: fused as the definition says, in order, whatever the batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcsp.config import PrecisionSettings
from dcsp.images.resize import resize_map
from dcsp.inference.multiscale import Views, prepare, score_views

EXACT = PrecisionSettings(autocast="fp32", channels_last=False)
FAST = PrecisionSettings(autocast="bf16", channels_last=True)


class Scores(NamedTuple):
    score_map: Tensor
    attention: Tensor


class Tiny(nn.Module):
    """Four score channels at stride 4, three attention channels; keeps the shapes it saw."""

    output_stride = grid_stride = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.scores = nn.Conv2d(8, 4, 3, padding=1)
        self.fcan = nn.Conv2d(4, 3, 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image_BCHW: Tensor) -> Scores:
        self.seen.append(tuple(image_BCHW.shape))
        score_map = self.scores(self.features(image_BCHW.float() / 64 - 2).relu()) * 4
        return Scores(score_map, self.fcan(score_map))


class Sampling(nn.Module):
    """Sees, in each cell, the pixel the cell is centred on and nothing else."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.output_stride = self.grid_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> Scores:
        rgb = image_BCHW[:, :, :: self.output_stride, :: self.output_stride].float()
        return Scores(torch.cat([-rgb[:, :1], rgb], dim=1), rgb)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(images: list[np.ndarray], views: Views, network: Any = None, **changes: Any) -> Any:
    options: dict[str, Any] = {"max_side": None, "precision": EXACT} | changes
    network = prepare(network or Tiny(), options["precision"], "cpu")
    return score_views(network, images, views, **options)


def nearest(side: float) -> int:
    """The k for which 4k + 1 pixels are nearest to a side."""
    return min(range(1, 100), key=lambda k: abs(4 * k + 1 - side))


def by_definition(image: np.ndarray, views: Views) -> np.ndarray:
    """Each view by itself, collected and fused in numpy."""
    network, maps = Tiny().eval(), []
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    height, width = image.shape[:2]
    with torch.no_grad():
        for scale in views.scales:
            size = [4 * nearest(side * scale) + 1 for side in (height, width)]
            scaled = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
            for mirrored in [False, True][: 1 + views.flip]:
                scores = network(scaled.flip(3) if mirrored else scaled)
                found = scores.attention if views.output == "attention" else scores.score_map
                found = found.softmax(1) if views.output == "probabilities" else found
                found = found.clamp(min=0) if views.relu else found
                found = found.flip(3) if mirrored else found
                full = (nearest(height) + 1, nearest(width) + 1)
                found = functional.interpolate(found, full, mode="bilinear", align_corners=True)
                maps.append(found[0].numpy())
    stack = np.stack(maps)
    return stack.max(axis=0) if views.fuse == "max" else stack.mean(axis=0)


@pytest.mark.parametrize(
    "views",
    [
        Views("scores", (1.0, 0.75, 0.5)),
        Views("attention", (1.0, 0.75, 0.5)),
        Views("attention", (0.5, 1.0, 1.25), flip=True, fuse="mean", relu=True),
        Views("probabilities", (0.75,), flip=True, fuse="mean"),
        Views("probabilities", (1.5, 0.5), fuse="max"),
    ],
)
def test_fusion_is_the_definition(views: Views) -> None:
    image = random_image(50, 38)
    (maps,) = run([image], views)
    assert maps.dtype == np.float32 and maps.shape[1:] == (13, 10)
    np.testing.assert_allclose(maps, by_definition(image, views), atol=1e-5)


def smooth_image(height: int, width: int) -> np.ndarray:
    """Red rises to the right, green downwards, blue is a wide bump off the middle: no fine detail.

    Painted in fractions of the image between the centres of its outermost pixels.
    """
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    bump = np.exp(-((x - 0.4) ** 2 + (y - 0.6) ** 2) / 0.2)
    return np.rint(np.stack([x, y, bump], axis=-1) * 255).astype(np.uint8)


SHIFT_VIEWS = [
    Views("attention", (1.0,)),
    Views("attention", (1.0,), flip=True),
    Views("attention", (0.5,), fuse="mean"),
    Views("attention", (0.75, 1.0, 1.25), flip=True, fuse="mean"),
    Views("attention", (1.0, 0.75, 0.5)),
]


@pytest.mark.parametrize("views", SHIFT_VIEWS)
@pytest.mark.parametrize(
    ("height", "width", "stride"),
    [(161, 209, 8), (160, 208, 8), (167, 203, 8), (224, 320, 16), (257, 321, 16), (333, 500, 16)],
)
def test_what_a_cell_says_comes_back_where_it_was_seen(
    views: Views, height: int, width: int, stride: int
) -> None:
    """A network that sees the image itself gives the image back, not shifted.

    Red and green are ramps: a shift by a pixel is a pixel's rise on average, and a pixel's fall
    in the negative, while what maxima add is added in both.
    """
    image = smooth_image(height, width)
    errors = []
    for shown in (image, 255 - image):
        (maps,) = run([shown], views, Sampling(stride))
        full = resize_map(maps, height, width, corners=True)
        errors.append(full - shown.transpose(2, 0, 1).astype(np.float32))
    for channel, side in ((0, width), (1, height)):
        in_pixels = [error[channel] * (side - 1) / 255 for error in errors]
        assert abs(in_pixels[0].mean() - in_pixels[1].mean()) / 2 < 0.25  # grey levels are whole
        # At the rim shrinking mixes in pixels of one side only.
        assert np.abs(in_pixels).max() < 1 + (side - 1) / 255
    steps = [stride / min(views.scales) / (side - 1) for side in (height, width)]
    bend = sum(step**2 / 8 * 10 * 255 for step in steps)  # of the bump, between its samples
    assert np.abs([error[2] for error in errors]).max() < bend + 3


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_cell_i_of_an_image_that_fits_is_pixel_i_times_the_stride(stride: int, flip: bool) -> None:
    image = random_image(3 * stride + 1, 5 * stride + 1)
    for fuse in ("max", "mean"):
        views = Views("attention", (1.0,), flip=flip, fuse=fuse)  # type: ignore[arg-type]
        (maps,) = run([image], views, Sampling(stride))
        np.testing.assert_array_equal(maps.transpose(1, 2, 0), image[::stride, ::stride])


@pytest.mark.parametrize(
    ("side", "cells"), [(321, 41), (320, 41), (325, 41), (326, 42), (9, 2), (1, 2)]
)
def test_score_maps_have_the_papers_size(side: int, cells: int) -> None:
    (maps,) = run([random_image(side, 17)], Views("scores", (1.0,)), Sampling(8))
    assert maps.shape == (4, cells, 3)


def test_mirrored_views_are_mirrored_back() -> None:
    image = np.zeros((9, 13, 3), np.uint8)
    image[:, 7:] = 200
    for fuse in ("max", "mean"):
        views = Views("attention", (1.0,), flip=True, fuse=fuse)  # type: ignore[arg-type]
        (maps,) = run([image], views, Sampling(2))
        assert (maps[0, :, :4] == 0).all() and (maps[0, :, 4:] == 200).all()


def test_probabilities_fused_by_mean_sum_to_one() -> None:
    (maps,) = run([random_image(33, 47)], Views("probabilities", (1.0, 0.5), True, "mean"))
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)


def test_results_come_in_the_order_of_the_images_whatever_the_batch() -> None:
    sizes = [(24, 32), (32, 24), (24, 32), (16, 16), (24, 32), (32, 24)]
    images = [random_image(*size, seed=i) for i, size in enumerate(sizes)]
    views = Views("scores", (1.0, 0.5))
    singly = [run([image], views)[0] for image in images]
    for batch in (1, 2, 8):
        for together, alone in zip(run(images, views, batch=batch), singly, strict=True):
            np.testing.assert_allclose(together, alone, atol=1e-5)


def test_images_of_equal_size_share_a_batch_up_to_its_limit() -> None:
    network = Tiny()
    images = [random_image(24, 32, seed=i) for i in range(5)] + [random_image(16, 16)]
    run(images, Views("scores", (1.0,)), network, batch=4)
    assert network.seen == [(4, 3, 25, 33), (1, 3, 25, 33), (1, 3, 17, 17)]


def test_large_images_are_scaled_down_first() -> None:
    network = Tiny()
    (maps,) = run([random_image(60, 120)], Views("scores", (1.0, 0.5)), network, max_side=40)
    assert network.seen == [(1, 3, 21, 41), (1, 3, 9, 21)]
    assert maps.shape == (4, 6, 11)


def test_a_tiny_image_survives_a_tiny_scale() -> None:
    (maps,) = run([random_image(1, 3)], Views("scores", (1.0, 0.25)))
    assert maps.shape == (4, 2, 2) and np.isfinite(maps).all()


def test_bf16_and_channels_last_stay_close() -> None:
    image = random_image(48, 64)
    views = Views("probabilities", (1.0, 0.5), fuse="mean")
    (exact,), (fast,) = (run([image], views, precision=p) for p in (EXACT, FAST))
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, exact, atol=0.05)


def test_no_images_are_no_maps_and_images_are_left_as_they_were() -> None:
    assert run([], Views("scores", (1.0,))) == []
    image = random_image(24, 32)
    before = image.copy()
    image.flags.writeable = False
    run([image], Views("scores", (1.0, 0.5), flip=True))
    np.testing.assert_array_equal(image, before)


def test_prepare_leaves_a_network_ready() -> None:
    network = prepare(Tiny().train(), FAST, "cpu")
    assert not network.training
    assert network.features.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_real_network_fits() -> None:
    from dcsp.config import NetworkSettings
    from dcsp.networks.deeplab import build_network

    settings = NetworkSettings(backbone="resnet18", weights="random", output_stride=16)
    network = build_network(settings, ("cat", "dog"), None)
    image = random_image(65, 49)
    for output, channels in (("scores", 3), ("attention", 2)):
        views = Views(output, (1.0, 0.5))  # type: ignore[arg-type]
        (maps,) = run([image], views, network, precision=FAST)
        assert maps.shape == (channels, 5, 4) and np.isfinite(maps).all()
