"""Generated scenes with known masks: a corpus that needs no download.

An image shows one to three classes of textured objects before a natural-looking background: a
large one in focus, smaller and fainter ones further off, some of them half hidden. A scene is a
pure function of (seed, index, size); tags and masks are exact: a tag is a class in sight.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcsp.config import SceneSettings
from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.corpus.sources.scene_backgrounds import blur, paint_background
from dcsp.corpus.sources.scene_shapes import OBJECTS, UPRIGHT, Canvas, Map, Rgb, fractal_noise
from dcsp.errors import ConfigError, ImageError
from dcsp.labels import SCENE_CLASSES, TagMapper
from dcsp.tables.codecs import encode_labels
from dcsp.tables.snapshot import TRAIN

SCENE_VERSION = 1
"""Raised whenever the same seed would give other pixels."""

_VAL_START = 1_000_000_000  # first index of the validation split, beyond any training split
_CLASS_SHARES = (0.3, 0.45, 0.25)  # how often a scene has 1, 2, 3 classes
_GAP = (0.6, 1.1)  # least distance of two objects over the sum of their radii
_PLACES_TRIED = 10  # for one object; the last is taken however much it overlaps
_LEAST_VISIBLE = 0.55  # share of an object that others must leave in sight
_NEAR_SIZE, _FAR_SIZE = (0.22, 0.32), (0.09, 0.16)  # radius over the shorter side of the image
_NEAR_HAZE, _FAR_HAZE = (0.0, 0.05), (0.2, 0.45)  # share of the background that veils an object
_BLUR = (0.5, 1.2)  # radius in pixels that everything but the nearest object is out of focus by
_LEAST_RADIUS = 6.0  # of an object, in pixels


@dataclass(frozen=True)
class Scene:
    """A generated image.

    Attributes:
        image: HWC uint8 RGB.
        mask: HW uint8: 0 background, ids of :data:`dcsp.labels.SCENE_CLASSES`.
        classes: Ids with visible pixels, sorted.
        jpeg_quality: Quality at which the scene is compressed.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    classes: tuple[int, ...]
    jpeg_quality: int


@dataclass(frozen=True)
class _Sprite:
    class_id: int
    x: float  # centre, in pixels
    y: float
    radius: float  # half the side of the square it is painted in, in pixels
    haze: float  # share of the background's colour that veils it


def scene_classes(seed: int, index: int, max_classes: int = 3) -> tuple[int, ...]:
    """The class ids a scene shows, sorted: cheap, since nothing is painted."""
    rng = np.random.default_rng([seed, index, 0])
    shares = np.array(_CLASS_SHARES[:max_classes] + (0.1,) * (max_classes - len(_CLASS_SHARES)))
    number = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
    chosen = rng.choice(len(SCENE_CLASSES), size=number, replace=False) + 1
    return tuple(sorted(int(c) for c in chosen))


def render_scene(seed: int, index: int, height: int, width: int, max_classes: int = 3) -> Scene:
    """Paint a scene.

    Args:
        seed: Seed of the corpus.
        index: Number of the scene, at least 0.
        height: Rows, at least 48.
        width: Columns, at least 48.
        max_classes: Most classes in one scene.
    """
    classes = scene_classes(seed, index, max_classes)
    rng = np.random.default_rng([seed, index, 1])
    background, horizon = paint_background(rng, height, width)
    for attempt in count():  # until every object is in sight: one or two attempts as a rule
        picture = background.copy()
        sprites = _arrange(rng, classes, height, width, horizon, size=0.93**attempt)
        mask = _paint(rng, picture, sprites)
        if mask is not None:
            return Scene(_photograph(rng, picture), mask, classes, int(rng.integers(78, 96)))
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class ScenesSource:
    """Generated scenes as a corpus source.

    Attributes:
        settings: Number and size of the scenes.
        classes: ``corpus.classes``; must hold the scene classes, in any order.
        seed: Seed of the run.
        splits: Splits to list.

    Raises:
        ConfigError: A scene class is missing from ``classes``.
    """

    settings: SceneSettings
    classes: tuple[str, ...]
    seed: int
    splits: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that every scene class has an id."""
        mapper = TagMapper(self.classes)
        missing = [name for name in SCENE_CLASSES if mapper.lookup(name) is None]
        if missing:
            raise ConfigError(
                f"corpus.classes lacks {missing} of the generated scenes: set it to "
                f"{list(SCENE_CLASSES)}."
            )

    def list_rows(self) -> Listed:
        """List the scenes of the wanted splits; nothing is painted."""
        s = self.settings
        etag = f"{SCENE_VERSION}-{self.seed}-{s.height}x{s.width}-{s.max_classes}"
        rows: list[SourceRow] = []
        for split in self.splits:
            number = s.train if split == TRAIN else s.val
            for position in range(number):
                index = position if split == TRAIN else _VAL_START + position
                name = f"{split}_{position:06d}"
                uri = f"scene://{self.seed}/{index}"
                ids = scene_classes(self.seed, index, s.max_classes)
                tags = tuple(SCENE_CLASSES[class_id - 1] for class_id in ids)
                rows.append(SourceRow(name, uri, split, tags, f"{uri}/mask", etag))
        return Listed.of(rows)

    def read(self, row: SourceRow) -> bytes:
        """The scene as a JPEG file."""
        scene = self._render(row)
        buffer = io.BytesIO()
        Image.fromarray(scene.image).save(buffer, "JPEG", quality=scene.jpeg_quality)
        return buffer.getvalue()

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The exact mask as a palette PNG of ids of ``classes``."""
        mapper = TagMapper(self.classes)
        ids = np.array([0, *(mapper.lookup(name) for name in SCENE_CLASSES)], np.uint8)
        return encode_labels(ids[self._render(row).mask])

    def _render(self, row: SourceRow) -> Scene:
        s = self.settings
        prefix = f"scene://{self.seed}/"
        index = row.uri.removeprefix(prefix)
        if not row.uri.startswith(prefix) or not index.isdecimal():
            raise ImageError("missing", f"{row.uri} is no scene of the seed {self.seed}")
        return _render_cached(self.seed, int(index), s.height, s.width, s.max_classes)


@lru_cache(maxsize=4)
def _render_cached(seed: int, index: int, height: int, width: int, max_classes: int) -> Scene:
    """The last few scenes: image and mask of a row are read one after the other."""
    return render_scene(seed, index, height, width, max_classes)


def _paint(
    rng: np.random.Generator, picture: Map, sprites: Sequence[_Sprite]
) -> NDArray[np.uint8] | None:
    """Paint objects into the picture, far ones first; gives the mask, None where one is hidden."""
    focus = float(rng.uniform(*_BLUR))
    azimuth, z = rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 0.75)
    level = (1 - z * z) ** 0.5
    light = (level * math.cos(azimuth), -level * abs(math.sin(azimuth)), z)
    owner = np.zeros(picture.shape[:2], np.uint8)  # 0, or 1 + the number of the topmost object
    areas: list[int] = []
    for number, sprite in enumerate(sprites, start=1):
        if number == len(sprites):  # the camera is focused on the nearest object
            picture[:] = blur(picture, focus)
        areas.append(_stamp(rng, picture, owner, sprite, number, light))
    visible = np.bincount(owner.ravel(), minlength=len(sprites) + 1)[1:]
    if any(seen < max(1, _LEAST_VISIBLE * area) for seen, area in zip(visible, areas, strict=True)):
        return None
    return np.array([0, *(sprite.class_id for sprite in sprites)], np.uint8)[owner]


def _arrange(
    rng: np.random.Generator,
    classes: Sequence[int],
    height: int,
    width: int,
    horizon: float,
    size: float,
) -> list[_Sprite]:
    """Choose place and size of every object; from far to near."""
    order = [int(c) for c in rng.permutation(classes)]
    order += [int(c) for c in rng.choice(order, size=int(rng.integers(0, 3)))]
    sprites: list[_Sprite] = []
    for rank, class_id in enumerate(order):
        share = rng.uniform(*(_NEAR_SIZE if rank == 0 else _FAR_SIZE))
        haze = rng.uniform(*(_NEAR_HAZE if rank == 0 else _FAR_HAZE))
        radius = max(_LEAST_RADIUS, share * size * min(height, width))
        low = max(radius, (horizon + 0.1) * height - 0.5 * radius)
        gap = rng.uniform(*_GAP)
        for _ in range(_PLACES_TRIED):
            x = float(rng.uniform(0.8 * radius, width - 0.8 * radius))
            y = float(rng.uniform(min(low, height - radius), height - radius))
            if all(
                math.hypot(x - other.x, y - other.y) > gap * (radius + other.radius)
                for other in sprites
            ):
                break
        sprites.append(_Sprite(class_id, x, y, radius, haze))
    return sorted(sprites, key=lambda sprite: sprite.radius)


def _stamp(
    rng: np.random.Generator,
    picture: Map,
    owner: NDArray[np.uint8],
    sprite: _Sprite,
    number: int,
    light: Rgb,
) -> int:
    """Paint one object with its shadow into picture and owner; returns its whole area in pixels."""
    height, width = owner.shape
    margin = 1.45 * sprite.radius
    top, left = max(0, int(sprite.y - margin)), max(0, int(sprite.x - margin))
    bottom = min(height, int(sprite.y + margin) + 1)
    right = min(width, int(sprite.x + margin) + 1)
    window = (slice(top, bottom), slice(left, right))
    dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = (dx - sprite.x) / sprite.radius, (dy - sprite.y) / sprite.radius
    stands = UPRIGHT[sprite.class_id - 1]
    turn = rng.uniform(-0.15, 0.15) if stands else rng.uniform(-np.pi, np.pi)
    if SCENE_CLASSES[sprite.class_id - 1] == "fish":
        turn = rng.uniform(-0.6, 0.6)
    mirror = float(rng.choice((-1.0, 1.0)))
    x = mirror * (dx * math.cos(turn) + dy * math.sin(turn))
    y = dy * math.cos(turn) - dx * math.sin(turn)
    noise = fractal_noise(rng, bottom - top, right - left, 5, 0.7)
    drawing = OBJECTS[sprite.class_id - 1](Canvas(x, y, noise, light, rng))
    shadow = np.clip(1 - np.hypot((dx + 0.3 * light[0]) / 1.05, (dy - 0.9) / 0.22), 0, 1)
    region = picture[window] * (1 - 0.55 * np.sqrt(shadow) * (1 - sprite.haze))[..., None]
    cover = np.clip(0.5 - drawing.distance * sprite.radius, 0, 1)[..., None]
    veil = region.mean(axis=(0, 1))
    colour = np.clip(drawing.colour, 0, 1.1) * (1 - sprite.haze) + veil * sprite.haze
    picture[window] = region + (colour - region) * cover
    inside = cover[..., 0] > 0.5
    owner[window][inside] = number
    return int(inside.sum())


def _photograph(rng: np.random.Generator, picture: Map) -> NDArray[np.uint8]:
    """Uneven light, a colour cast, sensor noise: what a camera makes of a scene."""
    height, width = picture.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    tilt_x, tilt_y = (float(tilt) for tilt in rng.uniform(-0.12, 0.12, 2))
    exposure = rng.uniform(0.82, 1.12) * (1 + tilt_x * x + tilt_y * y)
    exposure = exposure - rng.uniform(0, 0.12) * (x * x + y * y)
    cast = (1 + rng.uniform(-0.05, 0.05, 3)).astype(np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0.004, 0.02)
    exposed = picture * exposure[..., None] * cast + grain
    return np.asarray(np.clip(exposed, 0, 1) * 255 + 0.5, dtype=np.uint8)
