"""The outlines of a mask, exact to the pixel: polygons along the edges of its pixels.

A region is what hangs together by the sides of pixels. Formats of one ring a polygon cannot say
that it has holes: a hole is joined to what surrounds it by a cut without width, there and back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_INWARD = np.array([[0, 1], [-1, 0], [0, -1], [1, 0]])
"""Where the region is, seen from an edge of each direction: x and y."""
_TURNS = {
    8: ((_UP, _RIGHT),),
    4: ((_RIGHT, _DOWN),),
    1: ((_DOWN, _LEFT),),
    2: ((_LEFT, _UP),),
    7: ((_LEFT, _DOWN),),
    11: ((_UP, _LEFT),),
    14: ((_RIGHT, _UP),),
    13: ((_DOWN, _RIGHT),),
    9: ((_DOWN, _LEFT), (_UP, _RIGHT)),
    6: ((_LEFT, _UP), (_RIGHT, _DOWN)),
}
"""Pixels around a corner (1, 2 above it, 4, 8 below) → the directions in which outlines come and
go, the region to their right; where two regions touch by their corners, each has its own."""
_IS_CORNER = np.isin(np.arange(16), [*_TURNS])
Ring = NDArray[np.float64]
"""(n, 4): x and y of each corner, and the way from it to the centre of its pixel."""


def outlines(mask: NDArray[np.bool_]) -> list[Ring]:
    """The polygon of each region of a mask (HW bool), holes cut open.

    Returns:
        For each region (n, 4) float64, closed without repeating its first point: x, y along the
        edges of pixels, the corner of the image being (0, 0), and the way from there to the centre
        of the pixel inside, which :func:`centred` goes. The area within is that of the region.
    """
    regions, count = ndimage.label(mask)
    outer: list[Ring] = [np.zeros((0, 4))] * count
    holes: list[list[Ring]] = [[] for _ in range(count)]
    for ring in _rings(mask):
        x, y = (ring[0, :2] + ring[0, 2:] - 0.5).astype(int)
        region = regions[y, x] - 1
        if _doubled_area(ring) > 0:
            outer[region] = ring
        else:
            holes[region].append(ring)
    return [_joined(*pair, mask) for pair in zip(outer, holes, strict=True)]


def centred(ring: Ring) -> NDArray[np.float64]:
    """(n, 2) x and y of the same polygon through the centres of its outermost pixels.

    What fills polygons with the pixels that they go through, as OpenCV does, fills the region.
    """
    return ring[:, :2] + ring[:, 2:]


def _rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Outlines of regions, clockwise as they are seen, and of their holes, the other way round."""
    padded = np.pad(mask, 1).astype(np.uint8)
    around = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    rows, columns = np.nonzero(_IS_CORNER[around])
    signs = around[rows, columns]
    found = [
        np.column_stack([columns[at], rows[at], np.full(len(at), come), np.full(len(at), go)])
        for sign, turns in _TURNS.items()
        for at in [np.flatnonzero(signs == sign)]
        for come, go in turns
    ]
    corners = np.concatenate(found)
    following = np.zeros(len(corners), np.int64)
    for direction in range(4):
        # On a line, edges of one direction do not overlap: in order, each start has its end.
        line, along = (1, 0) if direction in (_RIGHT, _LEFT) else (0, 1)
        order = np.lexsort((corners[:, along], corners[:, line]))
        starts = order[corners[order, 3] == direction]
        following[starts] = order[corners[order, 2] == direction]
    inward = (_INWARD[corners[:, 2]] + _INWARD[corners[:, 3]]) / 2
    points = np.column_stack([corners[:, :2], inward])
    return [points[cycle] for cycle in _cycles(following.tolist())]


def _cycles(following: Sequence[int]) -> list[list[int]]:
    """The cycles of a permutation: one step a corner of an outline, none a pixel."""
    seen = bytearray(len(following))
    cycles = []
    for start in range(len(following)):
        at, cycle = start, []
        while not seen[at]:
            seen[at] = 1
            cycle.append(at)
            at = following[at]
        if cycle:
            cycles.append(cycle)
    return cycles


def _doubled_area(ring: Ring) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _joined(outer: Ring, holes: Sequence[Ring], mask: NDArray[np.bool_]) -> Ring:
    """One ring of a region's outline and its holes, the leftmost of which is joined first.

    The cut goes left from the hole within a row of pixels until the region ends there: at its
    outline, or at a hole that begins further left and is joined already.
    """
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].min())):
        first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
        right, row = int(hole[first, 0]), int(hole[first, 1])
        outside = np.flatnonzero(~mask[row, :right])
        left = int(outside[-1]) + 1 if outside.size else 0
        there = np.array([[left, row + 0.5, 0.5, 0]])
        here = np.array([[right, row + 0.5, -0.5, 0]])
        # The hole's leftmost edge goes down from that corner: the cut meets it on its way.
        turned = np.roll(hole, -first - 1, axis=0)
        after = np.roll(outer, -1, axis=0)
        is_met = (outer[:, 0] == left) & (after[:, 0] == left)
        is_met &= (outer[:, 1] > row + 0.5) & (after[:, 1] < row + 0.5)
        (met,) = np.flatnonzero(is_met)
        outer = np.concatenate(
            [outer[: met + 1], there, here, turned, here, there, outer[met + 1 :]]
        )
    return outer
