"""Training samples: random scale, crop, flip and colour jitter (paper 5.1; method 1.7).

A sample is a pure function of (seed, stage, epoch, image id), whatever machine makes it. Only the
region that a crop shows is resized, and a JPEG is decoded no larger than the crop needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from dcsp.config import TrainSettings
from dcsp.errors import ImageError
from dcsp.images.decode import decode_rgb
from dcsp.labels import IGNORE
from dcsp.tables.codecs import decode_labels, decode_map, decode_regions
from dcsp.training.stream import stable_seed

PADDING = (123, 117, 104)
"""RGB of pixels outside the image: the dataset's mean colour (122.68, 116.67, 104.01), rounded."""

Label = TypeVar("Label", np.uint8, np.int32)

# Weights of red, green and blue in brightness (ITU-R BT.601), as Pillow converts to grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Window:
    """What a crop shows of an image: every random choice of one sample.

    Attributes:
        scaled: (height, width) of the whole image after scaling, in pixels.
        offset: (top, left) of the shown part in the scaled image.
        shown: (height, width) of the shown part, at most the crop.
        place: (top, left) of the shown part in the crop, before the flip.
        flip: Whether the crop is mirrored left to right.
        color: Factors of (brightness, contrast, saturation); 1 leaves a property alone.
    """

    scaled: tuple[int, int]
    offset: tuple[int, int]
    shown: tuple[int, int]
    place: tuple[int, int]
    flip: bool
    color: tuple[float, float, float]


class Sample(NamedTuple):
    """One training crop.

    Attributes:
        image: crop×crop×3 uint8 RGB, :data:`PADDING` outside the image.
        cue: crop×crop uint8 class ids, 255 outside the image; None where there was no cue.
        saliency: crop×crop uint8, 255 = salient, 0 outside the image; None where there was none.
        valid: (top, left, bottom, right) int32: the box of the crop that the image covers.
        regions: crop×crop int32 ids of superpixels, one more than the last outside the image; None
            where there were none.
    """

    image: NDArray[np.uint8]
    cue: NDArray[np.uint8] | None
    saliency: NDArray[np.uint8] | None
    valid: NDArray[np.int32]
    regions: NDArray[np.int32] | None = None


def sample_rng(seed: int, stage: str, epoch: int, image_id: str) -> np.random.Generator:
    """The random numbers of one sample, a function of these four alone."""
    return np.random.default_rng(stable_seed(seed, stage, epoch, image_id))


def draw_window(
    height: int,
    width: int,
    settings: TrainSettings,
    rng: np.random.Generator,
    max_side: int | None = None,
) -> Window:
    """Draw scale, crop, flip and jitter for an image of this size.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        settings: ``scale``, ``crop``, ``flip`` and ``jitter`` are used.
        rng: As :func:`sample_rng` gives.
        max_side: Longest side in pixels an image has at scale 1 (``network.max_side``), so that
            training sees objects at the size inference does.

    Returns:
        A window: an image larger than the crop is cut at a random place, a smaller one is laid at a
        random place in it.
    """
    scale = rng.uniform(*settings.scale)
    if max_side is not None:
        scale *= min(1.0, max_side / max(height, width))
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    spare = [side - settings.crop for side in scaled]
    drawn = [int(rng.integers(abs(free) + 1)) for free in spare]
    flip = bool(rng.random() < 0.5) and settings.flip
    color = 1.0 + settings.jitter * rng.uniform(-1.0, 1.0, 3)
    return Window(
        scaled=scaled,
        offset=(drawn[0] if spare[0] > 0 else 0, drawn[1] if spare[1] > 0 else 0),
        shown=(min(scaled[0], settings.crop), min(scaled[1], settings.crop)),
        place=(drawn[0] if spare[0] < 0 else 0, drawn[1] if spare[1] < 0 else 0),
        flip=flip,
        color=(float(color[0]), float(color[1]), float(color[2])),
    )


def cut(
    image: NDArray[np.uint8],
    cue: NDArray[np.uint8] | None,
    saliency: NDArray[np.float32] | None,
    window: Window,
    crop: int,
    regions: NDArray[np.int32] | None = None,
) -> Sample:
    """The crop that a window shows of an image and of the maps that belong to it.

    The arrays cover the same frame, each at a resolution of its own.

    Args:
        image: HWC uint8 RGB.
        cue: HW uint8 class ids, 0 background, 255 ignore; resampled to the nearest pixel.
        saliency: HW float32 in [0, 1]; resampled bilinearly.
        window: As :func:`draw_window` gives.
        crop: Side of the crop in pixels.
        regions: HW int32 ids of superpixels; resampled to the nearest pixel.
    """
    pixels = np.asarray(_jitter(_resample(image, window), window.color))
    labels = None if cue is None else _nearest(cue, window)
    levels = None if saliency is None else np.asarray(_resample(saliency, window))
    (top, left), (height, width) = window.place, window.shown
    if window.flip:
        left = crop - left - width
    return Sample(
        image=_lay(pixels, window, crop, PADDING),
        cue=None if labels is None else _lay(labels, window, crop, IGNORE),
        saliency=None if levels is None else _lay(levels, window, crop, 0),
        valid=np.array([top, left, top + height, left + width], dtype=np.int32),
        regions=None if regions is None else _lay_regions(regions, window, crop),
    )


def make_samples(
    rows: pa.Table,
    settings: TrainSettings,
    classes: int,
    seed: int,
    stage: str,
    epoch: int,
    max_side: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Decode and augment rows of one epoch into the arrays of a batch.

    A row that cannot be shown (no bytes, or bytes that no longer decode) becomes an empty crop
    without tags, which no loss counts. Images without tags count for no tag loss either.

    Args:
        rows: Columns ``image_id``, ``height``, ``width``, ``bytes`` and ``tags`` of the corpus,
            and optionally ``cue`` (label PNG, null: all ignored) and ``saliency`` (8-bit grey PNG
            of any size, null: the row has no saliency) and ``regions`` (PNG of superpixel ids,
            null: one region, which no loss counts).
        settings: ``scale``, ``crop``, ``flip`` and ``jitter`` are used.
        classes: Number of classes C, background left out.
        seed: Of the run.
        stage: Name of the training stage.
        epoch: Of these rows.
        max_side: As in :func:`draw_window`.

    Returns:
        ``image`` B×crop×crop×3 uint8 RGB; ``tags`` B×C float32, 1 for present classes; ``valid``
        B×4 int32, the (top, left, bottom, right) box in which saliency is known, all 0 where it is
        not; with a ``cue`` column, ``cue`` B×crop×crop uint8; with a ``saliency`` column,
        ``saliency`` B×crop×crop uint8, 255 = salient; with a ``regions`` column, ``regions``
        B×crop×crop int32.

    Raises:
        ValueError: A tag is not in 1..C.
    """
    batch = _empty_batch(rows, settings.crop, classes)
    for index, row in enumerate(rows.to_pylist()):
        rng = sample_rng(seed, stage, epoch, row["image_id"])
        sample = _sample_of_row(row, settings, rng, max_side)
        if sample is None:
            continue
        batch["tags"][index] = _tag_vector(row["tags"], classes, row["image_id"])
        for name in ("image", "cue", "saliency", "regions"):
            if (found := getattr(sample, name)) is not None:
                batch[name][index] = found
        if sample.saliency is not None or "saliency" not in batch:
            batch["valid"][index] = sample.valid
    return batch


def _empty_batch(rows: pa.Table, crop: int, classes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a batch, as those of rows that cannot be shown."""
    size = rows.num_rows
    batch: dict[str, NDArray[Any]] = {
        "image": np.empty((size, crop, crop, 3), np.uint8),
        "tags": np.zeros((size, classes), np.float32),
        "valid": np.zeros((size, 4), np.int32),
    }
    batch["image"][:] = PADDING
    for name, blank in (("cue", IGNORE), ("saliency", 0)):
        if name in rows.column_names:
            batch[name] = np.full((size, crop, crop), blank, np.uint8)
    if "regions" in rows.column_names:
        batch["regions"] = np.zeros((size, crop, crop), np.int32)
    return batch


def _sample_of_row(
    row: dict[str, Any],
    settings: TrainSettings,
    rng: np.random.Generator,
    max_side: int | None,
) -> Sample | None:
    if not row["bytes"]:
        return None
    window = draw_window(row["height"], row["width"], settings, rng, max_side)
    try:
        # Ingest has judged the size by its own limit.
        limit = row["height"] * row["width"]
        image = decode_rgb(row["bytes"], limit, at_least=window.scaled)
    except ImageError:
        return None
    cue, saliency, regions = row.get("cue"), row.get("saliency"), row.get("regions")
    return cut(
        image,
        decode_labels(cue) if cue else None,
        decode_map(saliency) if saliency else None,
        window,
        settings.crop,
        decode_regions(regions) if regions else None,
    )


def _tag_vector(tags: Sequence[int] | None, classes: int, image_id: str) -> NDArray[np.float32]:
    vector = np.zeros(classes, np.float32)
    for tag in tags or ():
        if not 1 <= tag <= classes:
            raise ValueError(f"image {image_id!r} has the tag {tag}; ids go from 1 to {classes}")
        vector[tag - 1] = 1.0
    return vector


def _source_span(window: Window, axis: int, side: int) -> tuple[float, float]:
    """The shown part on an axis of an array of ``side`` pixels that covers the whole frame."""
    ratio = side / window.scaled[axis]
    start = window.offset[axis] * ratio
    return start, min(float(side), start + window.shown[axis] * ratio)


def _resample(array: NDArray[np.uint8] | NDArray[np.float32], window: Window) -> Image.Image:
    """The shown part, bilinear and antialiased as if the whole array had been resized.

    Floats in [0, 1] become 8-bit levels first.
    """
    box: list[float] = []
    region: list[slice] = []
    for axis in (0, 1):
        side = array.shape[axis]
        start, stop = _source_span(window, axis, side)
        reach = math.ceil(max(1.0, side / window.scaled[axis])) + 1  # of the triangle filter
        first = max(0, math.floor(start) - reach)
        region.append(slice(first, min(side, math.ceil(stop) + reach)))
        box += [start - first, stop - first]
    near: NDArray[Any] = np.ascontiguousarray(array[region[0], region[1]])
    if near.dtype != np.uint8:
        near = (near * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
    return Image.fromarray(near).resize(
        (window.shown[1], window.shown[0]),
        Image.Resampling.BILINEAR,
        box=(box[2], box[0], box[3], box[1]),
    )


def _nearest(cue: NDArray[Label], window: Window) -> NDArray[Label]:
    rows, columns = (
        ((window.offset[axis] + np.arange(window.shown[axis]) + 0.5) * side / window.scaled[axis])
        .astype(np.intp)
        .clip(max=side - 1)
        for axis, side in enumerate(cue.shape)
    )
    nearest: NDArray[Label] = cue[rows][:, columns]
    return nearest


def _lay_regions(regions: NDArray[np.int32], window: Window, crop: int) -> NDArray[np.int32]:
    outside = int(regions.max()) + 1
    return _lay(_nearest(regions, window), window, crop, outside)


def _jitter(image: Image.Image, color: tuple[float, float, float]) -> Image.Image:
    """Saturation about grey, contrast about the mean, then brightness, as one 3×4 matrix."""
    if color == (1.0, 1.0, 1.0):
        return image
    brightness, contrast, saturation = color
    mean = float(np.asarray(image.convert("L")).mean())
    gain = brightness * contrast
    shift = brightness * (1.0 - contrast) * mean
    matrix: list[float] = []
    for channel in range(3):
        matrix += [
            gain * ((1.0 - saturation) * luma + (saturation if channel == source else 0.0))
            for source, luma in enumerate(_LUMA)
        ]
        matrix.append(shift)
    return image.convert("RGB", tuple(matrix))


def _lay(
    shown: NDArray[Label], window: Window, crop: int, blank: int | tuple[int, int, int]
) -> NDArray[Label]:
    """The shown part in its place in the crop, mirrored where the window says so."""
    if shown.shape[:2] == (crop, crop):
        canvas = shown
    else:
        canvas = np.empty((crop, crop, *shown.shape[2:]), shown.dtype)
        canvas[:] = blank
        (top, left), (height, width) = window.place, window.shown
        canvas[top : top + height, left : left + width] = shown
    return np.ascontiguousarray(canvas[:, ::-1]) if window.flip else canvas
