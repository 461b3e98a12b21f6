"""Whether masks are of these classes: what they show is compared with the tags of their images.

One mask that shows another class than its tags says nothing: tags are missing, objects are small.
All of them together tell whether their ids mean what the config says:

- Masks fit where they show the tags of their images more often than chance would (Cohen's kappa of
  ``LEAST_KAPPA``). Ids in another order, ids of instances, and masks of 0 and 255 alone do not.
- An id means another class where its masks and the images of that tag are nearly the same ones: the
  F-measure of the two is the highest for both, and ``LEAST_GAIN`` above that of what they are
  called. So two ids that were swapped are found among others that are right.

Tags that are missing change neither: images without any are left out, and of each tag that is given
it is asked whether the mask shows it, not the other way round. On masks of VOC, kappa is 1.0 as
they are, 0.5 when half of the tags are wrong ones, and -0.01 to 0.06 with their ids in any other
order (``tests/corpus/test_mask_fit.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.corpus.rejected import MASK_STAGE
from dcsp.store.store import Store
from dcsp.tables.layout import rejected_file
from dcsp.tables.snapshot import ALL_MASKS, Masks, Snapshot
from dcsp.text import quantity, shown

LEAST_KAPPA = 0.2
LEAST_GAIN = 0.25
FEWEST = 5
"""Images with tags and masks from which on these are judged."""
_FEWEST_PAIRS = 3  # images that show an id and have another tag, for it to mean that one
_CHUNK = 2**16

Counts = NDArray[np.float64]


def judge_masks(
    catalogue: pa.Table, classes: Sequence[str], *, is_named: bool, distractors: int = 0
) -> Masks:
    """Compare the masks of a corpus with its tags.

    Args:
        catalogue: Rows of images with ``image_id``, ``tags`` and ``mask``.
        classes: Names in id order.
        is_named: Whether ``corpus.mask_classes`` says what ids mean.
        distractors: How many of the classes, the last ones, are distractors: masks need not show
            any of them.

    Returns:
        How many masks there are, which of them do not fit, and what to tell of these.
    """
    rows = catalogue.filter(pc.is_valid(catalogue["mask"]))
    tagged = rows.filter(pc.greater(pc.list_value_length(rows["tags"]), pa.scalar(0)))
    if tagged.num_rows < FEWEST:
        return Masks(usable=rows.num_rows)
    both, ids, tags = _counts(tagged, len(classes))
    unseen = (np.arange(len(classes)) >= len(classes) - distractors) & (ids == 0)
    tags[unseen] = both[:, unseen] = 0
    other = _other_meanings(both, ids, tags)
    unfit: tuple[int, ...] = tuple(sorted(other))
    is_common = bool(unfit) and 2 * tags[np.array(unfit) - 1].sum() >= tags.sum()
    if is_common or _kappa(both, ids, tags, tagged.num_rows) < LEAST_KAPPA:
        unfit = (ALL_MASKS,)
    if not unfit:
        return Masks(usable=rows.num_rows)
    left_out = rows.num_rows if unfit == (ALL_MASKS,) else int(_shows(rows, unfit).sum())
    told = (
        f"{left_out} of {quantity(rows.num_rows, 'mask')} left out of all figures, because their "
        f"ids do not go with the tags of their images{_example(tagged, classes)}: "
        f"{_advice(other, classes, is_named=is_named)}"
    )
    return Masks(rows.num_rows, unfit, left_out, told)


def mask_notes(store: Store, snapshot: Snapshot) -> Iterator[str]:
    """What whoever watches an ingest should know of the masks, one sentence each."""
    rejected = store.read_table(rejected_file(snapshot.fingerprint))
    bad = rejected.filter(pc.equal(rejected["stage"], pa.scalar(MASK_STAGE)))
    if bad.num_rows:
        first = bad.slice(0, 1).to_pylist()[0]
        yield (
            f"{quantity(bad.num_rows, 'mask')} cannot be used, such as that of {first['uri']} "
            f"({first['message']}); {snapshot.masks.usable} can; `dcsp rejected STORE` says why"
        )
    if snapshot.masks.told:
        yield snapshot.masks.told


def _counts(rows: pa.Table, classes: int) -> tuple[Counts, Counts, Counts]:
    """Images by id and tag, ids being those that masks show: (C, C); by id, and by tag: (C,)."""
    both, ids, tags = np.zeros((classes, classes)), np.zeros(classes), np.zeros(classes)
    for start in range(0, rows.num_rows, _CHUNK):
        chunk = rows.slice(start, _CHUNK)
        shows, has = (_indicators(chunk[name], classes) for name in ("mask", "tags"))
        both += shows.T @ has
        ids += shows.sum(axis=0)
        tags += has.sum(axis=0)
    return both, ids, tags


def _indicators(lists: pa.ChunkedArray[Any], classes: int) -> NDArray[np.float32]:
    """Lists of ids from 1 as a table of 0 and 1: (rows, C)."""
    found = np.zeros((len(lists), classes), np.float32)
    values = cast(Any, pc.list_flatten(lists)).to_numpy()
    found[cast(Any, pc.list_parent_indices(lists)).to_numpy(), values - 1] = 1
    return found


def _kappa(both: Counts, ids: Counts, tags: Counts, images: int) -> float:
    """Agreement of tags with what masks show, beyond chance; a tag of all images has no chance."""
    chance = (tags * ids / images)[tags < images].sum()
    possible = tags.sum() - chance
    return float((np.trace(both) - chance) / possible) if possible > 0 else 1.0


def _other_meanings(both: Counts, ids: Counts, tags: Counts) -> dict[int, int]:
    """Id → the class that it means in truth, for ids that mean another than they should."""
    f = 2 * both / np.maximum(ids[:, None] + tags[None, :], 1)
    own = np.diag(f)
    found = {}
    for tag in range(len(tags)):
        index = int(f[:, tag].argmax())
        is_best = f[index].argmax() == tag and both[index, tag] >= _FEWEST_PAIRS
        if index != tag and is_best and f[index, tag] >= max(own[index], own[tag]) + LEAST_GAIN:
            found[index + 1] = tag + 1
    return found


def _shows(rows: pa.Table, ids: Sequence[int]) -> NDArray[np.bool_]:
    """Which masks show one of some ids."""
    masks: list[list[int]] = rows["mask"].to_pylist()  # type: ignore[assignment]  # none is null
    return np.array([not {*ids}.isdisjoint(mask) for mask in masks], np.bool_)


def _advice(other: dict[int, int], classes: Sequence[str], *, is_named: bool) -> str:
    """What to do about ids that mean other classes."""
    if not other:
        return "see that they are ids of classes, not of instances, and 0 is background"
    pairs = [f"{i} is {shown(classes[c - 1])}" for i, c in sorted(other.items())]
    likely = f"it looks as if {', '.join(pairs[:5])}{' …' if len(pairs) > 5 else ''}"
    meant = [classes[other.get(i, i) - 1] for i in range(1, len(classes) + 1)]
    if is_named or len({*meant}) < len(meant):
        return f"{likely}: name classes in the order of their ids in corpus.mask_classes"
    return f"{likely}: then set corpus.mask_classes=[{', '.join(map(shown, meant))}]"


def _example(rows: pa.Table, classes: Sequence[str]) -> str:
    """The first image none of whose tags its mask shows."""
    for row in rows.select(["image_id", "tags", "mask"]).to_pylist():
        if {*row["tags"]}.isdisjoint(row["mask"]):
            tags, mask = ([shown(classes[i - 1]) for i in row[name]] for name in ("tags", "mask"))
            told = ", ".join(mask) or "nothing but 0 and 255"
            return (
                f" (such as {shown(row['image_id'])}, tagged {', '.join(tags)}: its mask: {told})"
            )
    return ""
