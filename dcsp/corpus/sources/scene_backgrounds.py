"""Backgrounds of the generated scenes: a far and a near field, a horizon, and clutter.

Every class stands before every background, so that no background gives a class away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dcsp.corpus.sources.scene_shapes import Map, Rgb, fractal_noise


@dataclass(frozen=True)
class Place:
    """What a kind of background looks like.

    Attributes:
        far: Colour of the far field at the top of the image, RGB in 0–1.
        near: Colour of the near field, RGB in 0–1.
        contrast: Of the near field's texture.
        streaks: How much the near field's texture is drawn out along x (above 1) or y (below 1).
        roughness: Of the horizon, as a share of the height.
    """

    far: Rgb
    near: Rgb
    contrast: float
    streaks: float
    roughness: float


PLACES: tuple[Place, ...] = (
    Place((0.50, 0.68, 0.90), (0.33, 0.45, 0.20), 0.14, 0.4, 0.02),
    Place((0.60, 0.75, 0.88), (0.76, 0.67, 0.50), 0.07, 2.5, 0.00),
    Place((0.72, 0.80, 0.90), (0.60, 0.45, 0.32), 0.10, 1.5, 0.05),
    Place((0.10, 0.34, 0.45), (0.45, 0.52, 0.46), 0.12, 1.0, 0.05),
    Place((0.20, 0.26, 0.16), (0.35, 0.27, 0.17), 0.16, 1.0, 0.04),
    Place((0.74, 0.70, 0.64), (0.50, 0.36, 0.25), 0.07, 6.0, 0.00),
    Place((0.62, 0.66, 0.70), (0.48, 0.47, 0.46), 0.09, 1.5, 0.01),
    Place((0.70, 0.76, 0.84), (0.86, 0.88, 0.92), 0.05, 1.5, 0.04),
)
"""Meadow, beach, desert, sea floor, wood, room, street, snow."""


_MEAN_COLOUR = np.array([0.481, 0.458, 0.408])  # of photographs, RGB in 0–1
_DULLNESS = 0.6  # share of it in every background


def paint_background(rng: np.random.Generator, height: int, width: int) -> tuple[Map, float]:
    """Paint a background.

    Returns:
        (height, width, 3) float32 RGB, about 0–1, and the horizon as a share of the height.
    """
    place = PLACES[int(rng.integers(len(PLACES)))]
    horizon = float(rng.uniform(0.2, 0.5))
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    ridge = fractal_noise(rng, 8, width, 3, 0.5)[4] * place.roughness + horizon
    far = _tint(rng, place.far) * (1 + 0.25 * (y[..., None] / max(horizon, 0.1) - 0.6))
    far = far + 0.06 * _clouds(rng, height, width)[..., None]
    ground = _tint(rng, place.near)
    near = ground * (0.8 + 0.35 * y[..., None])
    near = near * (1 + place.contrast * _near_texture(rng, height, width, place))[..., None]
    patches = _clouds(rng, height, width)[..., None]
    near = near + 0.03 * patches * rng.uniform(-1, 1, 3).astype(np.float32)
    share = np.clip((y - ridge[None]) * height / 2.0, 0, 1)[..., None]
    picture = far + (near - far) * share
    return _scatter(rng, picture.astype(np.float32), ground, horizon), horizon


def _near_texture(rng: np.random.Generator, height: int, width: int, place: Place) -> Map:
    rows, columns = height, width
    if place.streaks > 1:
        columns = max(8, round(width / place.streaks))
    else:
        rows = max(8, round(height * place.streaks))
    noise = Image.fromarray(fractal_noise(rng, rows, columns, 6, 0.85))
    return np.array(noise.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Map:
    """Soft noise, made at a quarter of the size."""
    noise = Image.fromarray(fractal_noise(rng, max(8, height // 4), max(8, width // 4), 3, 0.5))
    return np.array(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _scatter(rng: np.random.Generator, picture: Map, near: Map, horizon: float) -> Map:
    """Stones, leaves and stalks, in the colour of the ground: larger the nearer they are."""
    height, width = picture.shape[:2]
    colour = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(colour)
    for depth in np.sort(rng.uniform(0, 1, int(rng.integers(8, 40)))):
        x, y = rng.uniform(0, width), (horizon + (1 - horizon) * depth) * height
        size = (0.006 + 0.018 * depth) * height * rng.uniform(0.5, 1.5)
        base = near * (1 + rng.uniform(-0.15, 0.15, 3)) * rng.uniform(0.6, 1.25)
        shade = tuple(np.clip(base * 255, 0, 255).astype(int).tolist())
        dark = tuple(int(v * 0.6) for v in shade)
        flat = size * rng.uniform(0.3, 0.8)
        if rng.random() < 0.3:
            lean = rng.uniform(-1, 1) * size
            line = (x, y, x + lean, y - 4 * size)
            draw.line(line, fill=shade, width=max(1, round(size / 3)))
        else:
            draw.ellipse((x - size, y - flat + 0.4 * flat, x + size, y + 1.4 * flat), fill=dark)
            draw.ellipse((x - size, y - flat, x + size, y + flat), fill=shade)
    return blur(np.asarray(colour, dtype=np.float32) / 255.0, 0.5)


def _tint(rng: np.random.Generator, colour: Rgb) -> NDArray[np.float32]:
    """A colour made duller by the air, somewhat lighter or darker, warmer or colder."""
    gain = rng.uniform(0.85, 1.12) * (1 + rng.uniform(-0.07, 0.07, 3))
    dull = np.asarray(colour) + _DULLNESS * (_MEAN_COLOUR - np.asarray(colour))
    return np.asarray(np.clip(dull * gain, 0, 1), dtype=np.float32)


def blur(picture: Map, radius: float) -> Map:
    """A picture (HWC float32, 0–1) out of focus by a radius in pixels."""
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(radius)), dtype=np.float32) / 255.0
