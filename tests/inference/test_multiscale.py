"""Views of an image: fused as the definition says, in order, whatever the batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcsp.config import PrecisionSettings
from dcsp.inference.multiscale import Views, prepare, score_views

EXACT = PrecisionSettings(autocast="fp32", channels_last=False)
FAST = PrecisionSettings(autocast="bf16", channels_last=True)


class Scores(NamedTuple):
    score_map: Tensor
    attention: Tensor


class Tiny(nn.Module):
    """Four score channels at stride 4, three attention channels; keeps the shapes it saw."""

    output_stride = 4

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


class RightHalf(nn.Module):
    """Scores each cell by its mean red, so that mirroring shows."""

    output_stride = 2

    def forward(self, image_BCHW: Tensor) -> Scores:
        red = functional.avg_pool2d(image_BCHW[:, :1].float(), 2)
        return Scores(torch.cat([-red, red], dim=1), red)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(images: list[np.ndarray], views: Views, network: Any = None, **changes: Any) -> Any:
    options: dict[str, Any] = {"max_side": None, "precision": EXACT} | changes
    network = prepare(network or Tiny(), options["precision"], "cpu")
    return score_views(network, images, views, **options)


def by_definition(image: np.ndarray, views: Views) -> np.ndarray:
    """Each view by itself, collected and fused in numpy."""
    network, maps = Tiny().eval(), []
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    height, width = image.shape[:2]
    with torch.no_grad():
        for scale in views.scales:
            size = (round(height * scale), round(width * scale))
            scaled = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
            for mirrored in [False, True][: 1 + views.flip]:
                scores = network(scaled.flip(3) if mirrored else scaled)
                found = scores.attention if views.output == "attention" else scores.score_map
                found = found.softmax(1) if views.output == "probabilities" else found
                found = found.clamp(min=0) if views.relu else found
                found = found.flip(3) if mirrored else found
                full = (-(-height // 4), -(-width // 4))
                found = functional.interpolate(found, full, mode="bilinear", align_corners=False)
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


def test_mirrored_views_are_mirrored_back() -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 6:] = 200
    for fuse in ("max", "mean"):
        views = Views("attention", (1.0,), flip=True, fuse=fuse)  # type: ignore[arg-type]
        (maps,) = run([image], views, RightHalf())
        assert (maps[0, :, :3] == 0).all() and (maps[0, :, 3:] == 200).all()


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
    assert network.seen == [(4, 3, 24, 32), (1, 3, 24, 32), (1, 3, 16, 16)]


def test_large_images_are_scaled_down_first() -> None:
    network = Tiny()
    (maps,) = run([random_image(60, 120)], Views("scores", (1.0, 0.5)), network, max_side=40)
    assert network.seen == [(1, 3, 20, 40), (1, 3, 10, 20)]
    assert maps.shape == (4, 5, 10)


def test_a_tiny_image_survives_a_tiny_scale() -> None:
    (maps,) = run([random_image(1, 3)], Views("scores", (1.0, 0.25)))
    assert maps.shape == (4, 1, 1) and np.isfinite(maps).all()


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
