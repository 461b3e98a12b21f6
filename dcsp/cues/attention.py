"""Attention of the tagged classes (paper 4.1): which views, which channels, normalisation.

Attention is what a map of the FCAN says (min-max normalised, as in the paper), or what its score
map gives each tag where nothing but the tags and background can win. The latter needs no
normalisation, which would raise a class that is hardly seen to the height of one that is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dcsp.config import AttentionSettings
from dcsp.config.base import Source
from dcsp.inference.multiscale import Views

_TINY = np.finfo(np.float32).tiny


def attention_views(settings: AttentionSettings) -> Views:
    """The views that :func:`dcsp.inference.multiscale.score_views` fuses for attention."""
    output = output_of(settings.source)
    return Views(output, settings.scales, settings.flip, settings.fuse, settings.relu)


def output_of(source: Source) -> Literal["attention", "probabilities"]:
    """What a network is asked for: its attention volume, or softmax of its scores."""
    return "attention" if source == "fcan" else "probabilities"


def tag_attention(
    maps: NDArray[np.float32], tags: Sequence[int], settings: AttentionSettings
) -> NDArray[np.float32]:
    """Attention of the tagged classes from the fused maps of all classes.

    Args:
        maps: Nhw: the attention volume (N = C), or probabilities (N = C+1), as
            :func:`attention_views` has them made.
        tags: Class ids from 1, sorted and unique.
        settings: Which of the two.

    Returns:
        nhw float32 in [0, 1], one map a tag.

    Raises:
        ValueError: A tag has no map.
    """
    if settings.source == "fcan":
        return normalize_attention(select_tags(maps, tags, "fcan"))
    return tag_shares(maps, tags)[1:]


def tag_shares(maps: NDArray[np.float32], tags: Sequence[int]) -> NDArray[np.float32]:
    """Probabilities where nothing but background and tags can win.

    Args:
        maps: (C+1)hw probabilities of all classes, channel 0 the background.
        tags: Class ids from 1, sorted and unique.

    Returns:
        (1+n)hw float32 in [0, 1] that sums to 1, background first.

    Raises:
        ValueError: A tag has no map.
    """
    chosen = select_tags(maps, tags, "scores")
    shares = np.concatenate([maps[:1], chosen])
    shares /= np.maximum(maps[0] + chosen.sum(axis=0), _TINY)
    return shares.clip(0.0, 1.0)


def select_tags(
    maps: NDArray[np.float32],
    tags: Sequence[int],
    source: Literal["fcan", "scores"],
) -> NDArray[np.float32]:
    """The maps of the tagged classes, in the order of the tags.

    Args:
        maps: Nhw: attention (N = C, ``fcan``), or scores or their softmax (N = C+1, ``scores``).
        tags: Class ids from 1, sorted and unique.
        source: Which of the two ``maps`` is.

    Returns:
        nhw, a copy, one map a tag.

    Raises:
        ValueError: A tag has no map.
    """
    classes = len(maps) - (source == "scores")
    if any(not 1 <= tag <= classes for tag in tags):
        raise ValueError(f"Tags {list(tags)} go beyond the {classes} classes of the network.")
    first = 1 if source == "fcan" else 0
    return maps[np.asarray(tags, np.intp) - first]


def normalize_attention(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Min-max normalise each map over the image.

    Args:
        maps: nHW float32, any finite range.

    Returns:
        nHW float32, each from 0 to 1; a constant map, which points nowhere, becomes 0.
    """
    if len(maps) == 0:
        return maps.astype(np.float32)
    low = maps.min(axis=(1, 2), keepdims=True)
    span = maps.max(axis=(1, 2), keepdims=True) - low
    normalized: NDArray[np.float32] = maps - low
    normalized /= np.where(span > 0, span, np.float32(1))
    return normalized
