"""The six objects of the generated scenes: each a signed distance, a texture and a shading.

Coordinates: x right, y down, in object units; an object fits into [-1, 1]². Distances are negative
inside and about right near the outline, which is all that an antialiased edge needs.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.float32]
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """What an object is painted on.

    Attributes:
        x: HW float32, object units, to the right.
        y: HW float32, object units, down.
        noise: HW float32 fractal noise of about unit variance.
        light: Direction to the light, a unit vector (x, y, z) with z towards the viewer.
        rng: Source of this object's own choices.
    """

    x: Map
    y: Map
    noise: Map
    light: Rgb
    rng: np.random.Generator


@dataclass(frozen=True)
class Drawing:
    """An object as painted: HW distance in object units, HWC float32 colour in 0–1 (unclipped)."""

    distance: Map
    colour: Map


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cells: int = 4, persistence: float = 0.6
) -> Map:
    """Noise with a spectrum like that of natural images: octaves of smoothly enlarged noise.

    Args:
        rng: Source of randomness.
        height: Rows.
        width: Columns.
        cells: Most cells of the coarsest octave along the shorter side.
        persistence: Amplitude of an octave over that of the next coarser one.

    Returns:
        (height, width) float32 of mean 0 and standard deviation 1.
    """
    sizes = [(height, width)]
    while min(sizes[-1]) > cells:
        sizes.append((max(2, sizes[-1][0] // 2), max(2, sizes[-1][1] // 2)))
    total = rng.standard_normal(sizes[-1], dtype=np.float32)
    amplitude = 1.0
    for rows, columns in sizes[-2::-1]:  # every octave doubles the size, then adds its own noise
        amplitude *= persistence
        enlarged = Image.fromarray(total).resize((columns, rows), Image.Resampling.BICUBIC)
        total = np.array(enlarged)
        if (rows, columns) != (height, width):  # the last octave would be noise of single pixels
            total += amplitude * rng.standard_normal((rows, columns), dtype=np.float32)
    total -= total.mean()
    return total / max(float(total.std()), 1e-6)


def ball(c: Canvas) -> Drawing:
    """A beach ball or football: a sphere with coloured panels."""
    radius = np.hypot(c.x, c.y)
    z = np.sqrt(np.maximum(1 - radius**2, 0))
    tilt = c.rng.uniform(-0.9, 0.9)
    across = c.x * math.cos(tilt) - z * math.sin(tilt)
    depth = c.x * math.sin(tilt) + z * math.cos(tilt)
    longitude = np.arctan2(across, depth)
    panels = int(c.rng.integers(3, 6))
    stripe = np.floor(longitude / np.pi * panels + panels) % 2
    first = _hsv(c.rng, (0.0, 1.0), (0.6, 1.0), (0.6, 1.0))
    second = _hsv(c.rng, (0.0, 1.0), (0.0, 0.25), (0.85, 1.0))
    colour = _mix(_flat(first, c.x), _flat(second, c.x), stripe)
    colour = _mix(colour, _flat(first, c.x), (np.abs(c.y) > 0.93).astype(np.float32))
    diffuse = np.clip(c.x * c.light[0] + c.y * c.light[1] + z * c.light[2], 0, 1)
    gloss = 0.5 * diffuse**24
    painted = colour * (0.35 + 0.75 * diffuse)[..., None] + gloss[..., None]
    return Drawing(radius - np.float32(0.98), painted)


def crate(c: Canvas) -> Drawing:
    """A wooden crate: planks in a frame, with a lit top and a shaded side."""
    skew = c.rng.uniform(0.25, 0.5)
    x, y, half = c.x + 0.5 * skew, c.y - 0.5 * skew, 0.97 - 0.5 * skew  # of the front face
    front = np.maximum(np.abs(x), np.abs(y)) - half
    corners = (np.abs(c.x + c.y) - 1.94 + skew) * 0.7
    whole = np.maximum(np.maximum(np.abs(c.x), np.abs(c.y)) - 0.97, corners)
    wood = _flat(_hsv(c.rng, (0.06, 0.12), (0.45, 0.75), (0.5, 0.85)), c.x)
    planks = int(c.rng.integers(4, 7))
    gap = np.abs(((y / half + 1) * planks / 2) % 1 - 0.5) > 0.43
    frame = np.maximum(np.abs(x), np.abs(y)) > 0.77 * half
    brace = np.abs(x - y) < 0.13
    grain = 1 + 0.10 * c.noise + 0.06 * np.sin(40 * c.y + 3 * c.noise)
    face = np.where(frame | brace, 1.08, np.where(gap, 0.35, 0.85))
    level = np.where(front > 0, np.where(c.x + c.y < 0, 1.25, 0.55), face)
    edge = (np.abs(front) < 0.025) | ((np.abs(c.x + c.y) < 0.03) & (front > 0))
    shade = np.asarray(grain * np.where(edge, 0.4, level), dtype=np.float32)
    return Drawing(whole, wood * shade[..., None])


def starfish(c: Canvas) -> Drawing:
    """A starfish: five tapering arms with rows of light knobs."""
    radius, angle = np.hypot(c.x, c.y), np.arctan2(c.y, c.x)
    arms = 5
    sector = (angle + np.pi / arms) % (2 * np.pi / arms) - np.pi / arms
    along, off = radius * np.cos(sector), np.abs(radius * np.sin(sector))
    width = 0.30 - 0.21 * np.clip(along, 0, 1)
    distance = np.maximum(off - width, along - 0.95) * 0.9
    distance = np.minimum(distance, radius - 0.36)
    base = _flat(_hsv(c.rng, (-0.08, 0.1), (0.65, 0.95), (0.65, 0.95)), c.x)
    dots = (np.cos(along * 28) > 0.2) & (off < 0.035)
    dots |= (np.cos(along * 28 + 3) > 0.4) & (np.abs(off - 0.6 * width) < 0.03)
    light = _flat((0.98, 0.9, 0.72), c.x)
    colour = _mix(base, light, dots.astype(np.float32))
    height = np.clip(-distance / 0.2, 0, 1)
    shade = 0.55 + 0.5 * np.sqrt(height) + 0.12 * (c.x * c.light[0] + c.y * c.light[1])
    return Drawing(distance, colour * (shade + 0.08 * c.noise)[..., None])


def mushroom(c: Canvas) -> Drawing:
    """A toadstool: a spotted cap on a pale stalk."""
    cap = np.maximum(_ellipse(c.x, c.y + 0.02, 0.97, 0.95), c.y - 0.12 - 0.06 * np.cos(3 * c.x))
    stalk_width = 0.2 + 0.1 * np.clip(c.y, 0, 1) ** 2 + 0.02 * np.sin(7 * c.y)
    stalk = np.maximum(np.abs(c.x) - stalk_width, np.abs(c.y - 0.45) - 0.53)
    distance = np.minimum(cap, stalk)
    red = _flat(_hsv(c.rng, (-0.03, 0.06), (0.75, 1.0), (0.6, 0.95)), c.x)
    white = _flat((0.96, 0.94, 0.88), c.x)
    spots = np.zeros_like(c.x)
    for _ in range(9):
        px, py = c.rng.uniform(-0.85, 0.85), c.rng.uniform(-0.9, 0.05)
        size = c.rng.uniform(0.07, 0.16)
        spots = np.maximum(spots, (np.hypot(c.x - px, 1.3 * (c.y - py)) < size).astype(np.float32))
    z = np.sqrt(np.clip(1 - c.x**2 - c.y**2, 0, 1))
    diffuse = np.clip(c.x * c.light[0] + c.y * c.light[1] + z * c.light[2], 0, 1)
    cap_colour = _mix(red, white, spots) * (0.45 + 0.65 * diffuse)[..., None]
    ribs = 1 - 0.08 * np.sin(45 * c.x) + 0.05 * c.noise - 0.9 * np.abs(c.x - 0.1 * c.light[0])
    stalk_colour = white * ribs[..., None] * np.where(c.y < 0.24, 0.7, 1.0)[..., None]
    return Drawing(distance, _mix(stalk_colour, cap_colour, (cap < 0).astype(np.float32)))


def fish(c: Canvas) -> Drawing:
    """A tropical fish: scales, bars, fins and an eye."""
    body = _ellipse(c.x - 0.17, c.y, 0.8, 0.5)
    tail = np.maximum(np.abs(c.y) - 0.62 * (-c.x - 0.42), np.maximum(c.x + 0.4, -0.98 - c.x))
    tail = np.maximum(tail, -0.6 * (c.x + 0.8 + 0.8 * np.abs(c.y)))
    fin = _ellipse(c.x - 0.1, c.y + 0.45, 0.42, 0.3)
    belly = _ellipse(c.x - 0.12, c.y - 0.45, 0.22, 0.22)
    distance = np.minimum(np.minimum(body, tail), np.minimum(fin, belly))
    hue = c.rng.uniform(0, 1)
    base = _flat(_hsv(c.rng, (hue, hue), (0.55, 0.95), (0.65, 1.0)), c.x)
    other = _flat(_hsv(c.rng, (hue + 0.3, hue + 0.7), (0.4, 0.9), (0.5, 1.0)), c.x)
    bars = (np.sin(c.x * c.rng.uniform(7, 11) + c.rng.uniform(0, 6)) > 0.35).astype(np.float32)
    colour = _mix(base, other, bars)
    row = np.floor(c.y * 11)
    scales = np.hypot((c.x * 11 + 0.5 * (row % 2)) % 1 - 0.5, (c.y * 11) % 1 - 0.5)
    shade = 1.05 - np.float32(0.35) * (scales > 0.42) - 0.45 * np.clip(c.y, -0.3, 0.6)
    rays = 0.8 + 0.2 * np.sin(np.arctan2(c.y, c.x + 0.2) * 34)
    colour = np.where((body > 0)[..., None], other * rays[..., None], colour * shade[..., None])
    eye = np.hypot(c.x - 0.65, c.y + 0.1)
    colour = np.where((eye < 0.13)[..., None], np.float32(0.95), colour)
    return Drawing(distance, np.where((eye < 0.075)[..., None], np.float32(0.05), colour))


def cactus(c: Canvas) -> Drawing:
    """A saguaro: a ribbed column with two arms and pale spines."""
    heights = c.rng.uniform(-0.35, 0.25, 2)
    trunk = _capsule(c.x, c.y, (0, -0.72), (0, 1.2), 0.25)
    distance, centre = trunk, c.x
    for side, level in zip((-1, 1), heights.tolist(), strict=True):
        elbow = (side * 0.68, level)
        reach = _capsule(c.x, c.y, (0, elbow[1]), elbow, 0.14)
        raised = _capsule(c.x, c.y, elbow, (elbow[0], max(elbow[1] - 0.55, -0.8)), 0.15)
        arm = np.minimum(reach, raised)
        centre = np.where(raised < distance, c.x - elbow[0], centre)
        centre = np.where((reach < distance) & (reach < raised), c.y - elbow[1], centre)
        distance = np.minimum(distance, arm)
    distance = np.maximum(distance, c.y - 0.97)
    green = _flat(_hsv(c.rng, (0.24, 0.44), (0.4, 0.8), (0.35, 0.7)), c.x)
    ribs = 0.5 + 0.5 * np.cos(centre * 48)
    spines = (ribs > 0.93) & (np.cos(c.y * 42 + 20 * centre) > 0.55)
    side_light = 1 + 1.3 * centre * c.light[0] / (np.abs(centre) + 0.25)
    colour = green * ((0.55 + 0.5 * ribs) * np.clip(side_light, 0.35, 1.6))[..., None]
    colour *= (1 + 0.06 * c.noise)[..., None]
    return Drawing(distance, _mix(colour, _flat((0.95, 0.93, 0.7), c.x), spines.astype(np.float32)))


OBJECTS: tuple[Callable[[Canvas], Drawing], ...] = (ball, crate, starfish, mushroom, fish, cactus)
"""The painters, in the order of :data:`dcsp.labels.SCENE_CLASSES`."""

UPRIGHT = (False, True, False, True, False, True)
"""Whether an object stands: such objects lean by few degrees, the others lie any way round."""


def _hsv(rng: np.random.Generator, hue: tuple[float, float], *rest: tuple[float, float]) -> Rgb:
    saturation, value = rest
    h, s, v = (float(rng.uniform(*bounds)) for bounds in (hue, saturation, value))
    return colorsys.hsv_to_rgb(h % 1.0, s, v)


def _flat(colour: Rgb, like: Map) -> Map:
    return np.broadcast_to(np.asarray(colour, np.float32), (*like.shape, 3))


def _mix(first: NDArray[Any], second: NDArray[Any], share: NDArray[np.floating]) -> Map:
    mixed = first + (second - first) * share[..., None]
    return np.asarray(mixed, dtype=np.float32)


def _ellipse(x: Map, y: Map, rx: float, ry: float) -> Map:
    level = np.hypot(x / rx, y / ry)
    slope = np.hypot(x / rx**2, y / ry**2)
    distance: Map = level * (level - 1) / np.maximum(slope, 1e-3)
    return distance


def _capsule(
    x: Map, y: Map, start: tuple[float, float], end: tuple[float, float], radius: float
) -> Map:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-9)
    share = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length, 0, 1)
    distance = np.hypot(x - start[0] - share * dx, y - start[1] - share * dy) - radius
    return np.asarray(distance, dtype=np.float32)
