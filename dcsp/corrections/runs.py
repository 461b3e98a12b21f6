"""Run lengths: how tools write the pixels of a shape as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIZES = (3, 4, 8, 16)
"""Bits of a run's length that Label Studio's own encoder chooses from."""
_LONGEST = 2**16
_LONGEST_NUMBER = 13 * 5
"""Bits in the digits of COCO's text that 64 bits fit into."""
_HEAD = 32 + 5 + 4 * 4


def to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs of a flat mask; the first is of pixels that are not set, and may be 0."""
    ends = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    lengths: list[int] = np.diff([0, *ends, len(mask)]).tolist()
    return [0, *lengths] if mask[0] else lengths


def from_runs(runs: Sequence[int], pixels: int) -> NDArray[np.bool_]:
    """The flat mask of :func:`to_runs`.

    Raises:
        ValueError: They are no lengths, or not of so many pixels.
    """
    lengths = np.array(runs, np.int64)
    is_length = (lengths >= 0) & (lengths <= pixels)  # longer ones could sum up past 64 bits
    if lengths.ndim != 1 or not is_length.all() or lengths.sum() != pixels:
        raise ValueError(f"run lengths that are not of {pixels} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def from_coco_text(text: str) -> list[int]:
    """The run lengths in COCO's compressed text, column after column.

    Each is a number of 5-bit digits, the lowest first, and from the fourth on the difference to the
    last but one.

    Raises:
        ValueError: The text ends within a number, or one has more than 64 bits.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode():
        digit = sign - 48
        value |= (digit & 31) << shift
        shift += 5
        if shift > _LONGEST_NUMBER:
            raise ValueError("a run length of more than 64 bits")
        if not digit & 32:
            value -= (digit & 16) and 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths that were cut off")
    return runs


def to_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask (HW bool) as Label Studio's brush has it: bytes of runs of RGBA pixels, 0 and 255."""
    runs = to_runs(mask.ravel())
    bits = [f"{4 * mask.size:032b}{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for number, run in enumerate(runs):
        value = f"{255 * (number % 2):08b}"
        whole, rest = divmod(4 * run, _LONGEST)
        bits += [f"111{_LONGEST - 1:016b}{value}"] * whole
        if rest:
            index = next(i for i, size in enumerate(_SIZES) if rest <= 2**size)
            bits.append(f"1{index:02b}{rest - 1:0{_SIZES[index]}b}{value}")
    digits = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    packed: list[int] = np.packbits(digits).tolist()
    return packed


def from_brush(data: Sequence[int], pixels: int) -> NDArray[np.bool_]:
    """The flat mask of Label Studio's brush: where its fourth channel, alpha, is not 0.

    Raises:
        ValueError: It is none, or not of so many pixels.
    """
    bits = np.unpackbits(np.array(data, np.uint8))
    text = (bits + ord("0")).tobytes().decode()
    if len(text) < _HEAD or int(text[:32], 2) != 4 * pixels:
        raise ValueError(f"a brush that is not of {pixels} pixels")
    word = int(text[32:37], 2) + 1
    sizes = [int(text[at : at + 4], 2) + 1 for at in range(37, _HEAD, 4)]
    if word != 8:
        raise ValueError(f"a brush of {word} bits a channel")
    at, done = _HEAD, 0
    values = np.zeros(4 * pixels, np.uint8)
    while done < len(values):
        size = sizes[int(text[at + 1 : at + 3] or "0", 2)]
        run = int(text[at + 3 : at + 3 + size] or "0", 2) + 1
        is_run, at = text[at : at + 1] == "1", at + 3 + size
        words = 1 if is_run else run
        found = np.packbits(bits[at : at + 8 * words])
        if len(found) < words or done + run > len(values):
            raise ValueError("a brush that was cut off")
        values[done : done + run] = found
        at, done = at + 8 * words, done + run
    return values.reshape(pixels, 4)[:, 3] > 0
