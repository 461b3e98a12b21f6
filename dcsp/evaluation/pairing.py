"""Which images of two runs are compared: joined by their ids, whatever parts they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcsp.errors import StoreError
from dcsp.evaluation.changes import Changes, Pairing, PartComparison
from dcsp.labels import BACKGROUND, IGNORE, MAX_CLASSES
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import catalogue_file, run_file
from dcsp.tables.snapshot import Snapshot


@dataclass(frozen=True)
class Labels:
    """What a run publishes.

    Attributes:
        directory: Of its predictions.
        classes: Names that labels show, in id order, background left out.
        splits: Those that are labelled.
        snapshot: The corpus.
    """

    directory: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    snapshot: Snapshot

    @classmethod
    def of_run(cls, store: Store, run_id: str) -> Labels:
        """By what was written down of a run: its stages are not laid out again.

        Raises:
            StoreError: There is no such run, it ended with its cues, or it cannot be read.
        """
        record: Any = store.read_json(run_file(run_id))
        try:
            steps = [
                step["directory"]
                for step in record["steps"]
                if step.get("role", step["title"]) == Role.PREDICTIONS.value
            ]
            config = record["config"]
            splits, shown = config["predict"]["splits"], config["corpus"].get("classes")
            fingerprint = record["snapshot"]
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{store.path(run_file(run_id))} is of another version of dcsp ({error!r}): what "
                "changed against that run cannot be told."
            ) from error
        if not steps:
            raise StoreError(f"The run {run_id} ended with its cues and publishes no labels.")
        snapshot = Snapshot.load(store, fingerprint)
        classes = tuple(snapshot.classes if shown is None else shown)  # without distractors
        return cls(steps[-1], classes, tuple(splits), snapshot)


class Comparison(NamedTuple):
    """The work of comparing the labels of two runs.

    Attributes:
        classes: Names of both runs' classes in the order of :attr:`Changes.counts`, background and
            255 left out.
        start: What is known without reading a label; what :attr:`part` finds is to be added.
        pairings: What is left to compare.
        part: Compares one of them.
    """

    classes: tuple[str, ...]
    start: Changes
    pairings: Sequence[Pairing]
    part: PartComparison


def compare_runs(
    store: Store, first: str, second: str, only: Collection[str] | None = None
) -> Comparison:
    """Lay out the comparison of two runs.

    Args:
        store: Of both.
        first: Id of the run before.
        second: Id of the run after.
        only: Names of parts of the run after, whose images alone are compared: none counts as gone
            then. None: all.

    Raises:
        StoreError: A run or the catalogue of its corpus cannot be read, it publishes no labels, or
            they have more classes together than a label map can hold.
    """
    before, after = Labels.of_run(store, first), Labels.of_run(store, second)
    classes = tuple(dict.fromkeys((*after.classes, *before.classes)))
    if len(classes) >= MAX_CLASSES:
        raise StoreError(
            f"The runs {first} and {second} have {len(classes)} classes together, "
            f"and fewer than {MAX_CLASSES} can be compared."
        )
    theirs, ours = _places(store, before), _places(store, after, only)
    if only is not None:
        theirs = theirs.filter(pc.is_in(theirs["image_id"], value_set=ours["image_id"]))
    pairs = _pairs(theirs, ours)
    both = sum(pairs.values())
    equal = 0
    if before.directory == after.directory:  # a row of one part is one and the same
        same = [pair for pair in pairs if _is_one(pair, before, after)]
        equal = sum(map(pairs.pop, same))
    ids = tuple(_ids_in(classes, labels.classes) for labels in (before, after))
    start = Changes.empty(len(classes))
    return Comparison(
        classes,
        replace(start, images=equal, new=ours.num_rows - both, gone=theirs.num_rows - both),
        list(_pairings(pairs, before, after)),
        PartComparison(store, before.directory, after.directory, ids[0], ids[1], len(classes)),
    )


def _ids_in(classes: Sequence[str], own: Sequence[str]) -> bytes:
    """For each of 256 values of a run's labels, its place among background, classes and 255.

    Values beyond the run's classes count as background, as they do in its figures.
    """
    places = np.full(256, BACKGROUND, np.uint8)
    places[IGNORE] = len(classes) + 1
    places[1 : len(own) + 1] = [classes.index(name) + 1 for name in own]
    return places.tobytes()


def _places(store: Store, labels: Labels, only: Collection[str] | None = None) -> pa.Table:
    """``image_id`` and index of its ``part``, of each image that a run was to label."""
    labelled = [
        index
        for index, part in enumerate(labels.snapshot.parts)
        if part.split in labels.splits and (only is None or part.name in only)
    ]
    file = catalogue_file(labels.snapshot.fingerprint)
    table = store.read_table(file, ["image_id", "part"])
    return table.filter(pc.is_in(table["part"], value_set=pa.array(labelled, pa.int32())))


def _pairs(theirs: pa.Table, ours: pa.Table) -> dict[tuple[int, int], int]:
    """Index of a part of ours and of one of theirs → images that are in both, in order."""
    places = pc.index_in(ours["image_id"], value_set=theirs["image_id"])
    their_part = pc.take(theirs["part"], pc.drop_null(places)).to_numpy()
    our_part = ours.filter(pc.is_valid(places))["part"].to_numpy()
    pairs, numbers = np.unique(np.stack([our_part, their_part]), axis=1, return_counts=True)
    return dict(zip(zip(*pairs.tolist(), strict=True), numbers.tolist(), strict=True))


def _is_one(pair: tuple[int, int], before: Labels, after: Labels) -> bool:
    """Whether both indices are of one part."""
    our, their = pair
    return after.snapshot.parts[our].name == before.snapshot.parts[their].name


def _pairings(
    pairs: Mapping[tuple[int, int], int], before: Labels, after: Labels
) -> Iterator[Pairing]:
    for our, group in groupby(pairs, key=lambda pair: pair[0]):
        found = list(group)
        others = tuple(before.snapshot.parts[their].part for _, their in found)
        yield Pairing(after.snapshot.parts[our].part, others, sum(map(pairs.__getitem__, found)))
