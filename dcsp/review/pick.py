"""Which images to correct: those whose correction is worth most to the networks of the next run.

A class of an image is worth its distrust, one less its expected IoU, over the number of images of
the class: in the mean over classes a rare one counts as much as a common one. What is picked
shares the worth of its classes with what comes next, so that no class has all of the budget.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run, directory_of
from dcsp.stages.columns import read_columns
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import TRAIN, Part, Snapshot
from dcsp.training.stream import stable_seed

_MOST, _EACH = 10_000, 50
"""Images that are chosen from, at least and for each that is asked for: those worth most."""


@dataclass(frozen=True)
class Picked:
    """An image to correct.

    Attributes:
        part: Of the corpus.
        image_id: Its id there.
    """

    part: Part
    image_id: str


def pick(store: Store, run: Run, budget: int, seed: int | None = None) -> list[Picked]:
    """Training images of a run to correct, the worthiest first; none that is corrected already.

    Args:
        store: The store.
        run: One of its runs, which has ended.
        budget: How many, at most.
        seed: Picks at random instead, each image with the same chance.

    Raises:
        StoreError: The run has no trust of training images, or a table cannot be read.
    """
    trust, corrections = directory_of(run, Role.TRUST), directory_of(run, Role.CORRECTIONS)
    told = store.read_json(metrics_file(run.run_id)).get("trust")
    if not (trust and told) or TRAIN not in run.record["config"]["predict"]["splits"]:
        raise StoreError(
            f"The run {run.run_id} rates no labels of training images: run `dcsp relabel` with "
            "predict.splits=[train, val], then review again."
        )
    parts = Snapshot.load(store, run.record["snapshot"]).of([TRAIN])
    weights = _weights(told)
    best = _Best(budget if seed is not None else max(_MOST, _EACH * budget))
    drawn = read_columns(store, corrections, parts, ["image_id", "status"]) if corrections else None
    columns = ["image_id", "status", "score", "classes"]
    for number, rows in enumerate(read_columns(store, trust, parts, columns)):
        found = worth(rows, weights)
        is_free = pc.equal(rows["status"], pa.scalar(OK)).to_numpy().astype(bool)
        if drawn:
            is_free &= pc.not_equal(next(drawn)["status"], pa.scalar(OK)).to_numpy().astype(bool)
        order = found.sum(axis=1)
        if seed is not None:
            order = np.random.default_rng(stable_seed(seed, parts[number].name)).random(len(order))
        best.add(number, rows["image_id"].to_numpy(), np.flatnonzero(is_free), order, found)
    chosen = range(budget) if seed is not None else choose(best.worth, budget)
    places = [best.places[index] for index in list(chosen)[: len(best.places)]]
    return [Picked(parts[number], image_id) for number, image_id in places]


def _weights(told: Mapping[str, Any]) -> NDArray[np.float64]:
    """One over the images of each class; first that of images that show none."""
    images = [c["images"] + c["without_pixels"] for c in told["per_class"].values()]
    return 1 / np.maximum([told["images"], *images], 1)


def worth(rows: pa.Table, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each class of each image is worth to correct: (n, C+1), at least 0.

    Args:
        rows: Columns ``score`` and ``classes`` of a trust table; rows without are worth nothing.
        weights: (C+1,); the first is of images without any class.
    """
    found = np.zeros((rows.num_rows, len(weights)))
    classes = rows["classes"].combine_chunks()
    owners = pc.list_parent_indices(classes).to_numpy()
    flat = pc.list_flatten(classes)
    ids = pc.struct_field(flat, "class").to_numpy(zero_copy_only=False)
    scores = pc.struct_field(flat, "score").to_numpy(zero_copy_only=False)
    found[owners, ids] = (1 - scores) * weights[ids]
    lengths = pc.list_value_length(classes).fill_null(1).to_numpy(zero_copy_only=False)
    has_none = lengths == 0
    score = rows["score"].combine_chunks().fill_null(1.0).to_numpy(zero_copy_only=False)
    found[has_none, 0] = (1 - score[has_none]) * weights[0]
    return found


def choose(worth: NDArray[np.float64], budget: int) -> list[int]:
    """Pick one after the other what adds most: a class that k picked images show counts 1 / (1+k).

    An image's part never grows while others are picked, so that one which still has the most, by
    what it had before, need not be compared with all.

    Args:
        worth: (n, C+1), at least 0.
        budget: How many to pick; images that are worth nothing are not picked.

    Returns:
        Rows of ``worth``, in order.
    """
    covered = np.zeros(worth.shape[1])
    shows = worth > 0
    heap = [(-value, index) for index, value in enumerate(worth.sum(axis=1).tolist()) if value > 0]
    heapq.heapify(heap)
    picked: list[int] = []
    while heap and len(picked) < budget:
        _, index = heapq.heappop(heap)
        now = (-float((worth[index] / (1 + covered)).sum()), index)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
        else:
            picked.append(index)
            covered += shows[index]
    return picked


class _Best:
    """The images of the highest order seen so far, however many there were.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts, self._ids = np.zeros(0, np.int64), np.zeros(0, object)
        self._order = np.zeros(0)
        self._worth: NDArray[np.float64] | None = None

    @property
    def places(self) -> Sequence[tuple[int, str]]:
        """Number of the part and id of each, the highest first."""
        return [*zip(self._parts.tolist(), self._ids.tolist(), strict=True)]

    @property
    def worth(self) -> NDArray[np.float64]:
        """What each is worth, class by class."""
        return np.zeros((0, 1)) if self._worth is None else self._worth

    def add(
        self,
        part: int,
        ids: NDArray[np.object_],
        rows: NDArray[np.int64],
        order: NDArray[np.float64],
        worth: NDArray[np.float64],
    ) -> None:
        """Look at some rows of a part; ``ids``, ``order`` and ``worth`` are of all of them."""
        held = np.concatenate([self._order, order[rows]])
        kept = np.argsort(-held, kind="stable")[: self._most]
        self._order = held[kept]
        self._parts = np.concatenate([self._parts, np.full(len(rows), part)])[kept]
        self._ids = np.concatenate([self._ids, ids[rows]])[kept]
        before = worth[:0] if self._worth is None else self._worth
        self._worth = np.concatenate([before, worth[rows]])[kept]
