"""What changed between two runs, against arithmetic over all pixels at once."""

from __future__ import annotations

import pickle
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dcsp.errors import StoreError
from dcsp.evaluation import changes as changes_module
from dcsp.evaluation.changes import MOST_CHANGED, Changes, against, names
from dcsp.evaluation.pairing import Comparison, compare_runs
from dcsp.store.store import Store
from dcsp.tables.layout import part_file, run_file
from tests.evaluation.two_runs import Label, Run

CLASSES = ("cat", "dog")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def compared(store: Store, first: Run, second: Run) -> tuple[Comparison, Changes]:
    """Two runs, written and compared as a worker does it: from pickled work."""
    for run in (first, second):
        run.write(store)
    work = compare_runs(store, first.run_id, second.run_id)
    part = pickle.loads(pickle.dumps(work.part))
    return work, reduce(Changes.__add__, map(part, work.pairings), work.start)


def draw(seed: int, side: int = 4) -> NDArray[np.uint8]:
    """A label of background, two classes and ignored pixels."""
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (side, side))


def images(seeds: range, prefix: str = "i") -> dict[str, Label]:
    return {f"{prefix}{seed}": draw(seed) for seed in seeds}


LABELS = st.one_of(st.none(), st.integers(0, 30))
"""A seed of :func:`draw`; None: the image failed."""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=9), st.integers(1, 4))
def test_the_matrix_is_that_of_all_pixels(
    pairs: list[tuple[int | None, int | None]], k: int
) -> None:
    drawn = [tuple(None if seed is None else draw(seed) for seed in pair) for pair in pairs]
    ids = [f"i{number}" for number in range(len(pairs))]
    first, second = (
        {
            f"part{start}": dict(zip(ids[start : start + k], side[start : start + k], strict=True))
            for start in range(0, len(ids), k)
        }
        for side in zip(*drawn, strict=True)
    )
    with TemporaryDirectory() as place:
        _, total = compared(Store(place), Run("a", first), Run("b", second))
    expected = np.zeros((4, 4), int)
    changed = lost = gained = 0
    place_of = {0: 0, 1: 1, 2: 2, 255: 3}
    for old, new in drawn:
        if old is None and new is None:
            continue
        lost, gained = lost + (new is None), gained + (old is None)
        old = np.full((4, 4), 255) if old is None else old
        new = np.full((4, 4), 255) if new is None else new
        for one, other in zip(old.ravel().tolist(), new.ravel().tolist(), strict=True):
            expected[place_of[one], place_of[other]] += 1
        changed += bool((old != new).any())
    assert np.array_equal(total.counts, expected)
    assert (total.images, total.images_changed) == (len(pairs), changed)
    assert (total.lost, total.gained, total.resized) == (lost, gained, 0)
    assert (total.pixels, total.pixels_changed) == (
        expected.sum(),
        expected.sum() - expected.trace(),
    )


def test_images_are_joined_by_id_whatever_parts_they_are_in(store: Store) -> None:
    first = Run("a", {"p": images(range(4)), "q": images(range(4, 8))}, dead={"p": (1,)})
    moved = {**images(range(6, 8)), **images(range(2, 4)), "new": draw(50)}
    second = Run("b", {"r": moved, "q": images(range(4, 8))}, dead={"q": (2, 3)})
    work, total = compared(store, first, second)
    assert [[part.name for part in p.before] for p in work.pairings] == [["p", "q"], ["q"]]
    assert (total.images, total.new, total.gone) == (6, 1, 1)
    assert total.images_changed == 0 and total.pixels == 6 * 16


def test_only_labelled_splits_count(store: Store) -> None:
    parts = {"p": images(range(3)), "v": images(range(3, 5))}
    first = Run("a", parts, val=("v",))
    second = Run("b", parts, val=("v",), splits=("train",))
    total = compared(store, first, second)[1]
    assert (total.images, total.new, total.gone) == (3, 0, 2)


def test_classes_are_those_of_equal_names(store: Store) -> None:
    old, new = np.array([[1, 2, 0, 255]], np.uint8), np.array([[2, 3, 0, 255]], np.uint8)
    first = Run("a", {"p": {"i": old}}, classes=("cat", "dog"))
    second = Run("b", {"p": {"i": new}}, classes=("cow", "cat", "bird"))
    work, total = compared(store, first, second)
    assert work.classes == ("cow", "cat", "bird", "dog")
    changed = {
        (names(work.classes)[row], names(work.classes)[column])
        for row, column in np.argwhere(total.counts - np.diag(np.diag(total.counts)))
    }
    assert changed == {("dog", "bird")} and total.pixels_changed == 1


def test_equal_bytes_of_other_class_lists_are_other_labels(store: Store) -> None:
    label = np.array([[1, 1, 0, 0]], np.uint8)
    first = Run("a", {"p": {"i": label}}, classes=("cat", "dog"))
    second = Run("b", {"p": {"i": label}}, classes=("dog", "cat"))
    assert compared(store, first, second)[1].changed_share == 0.5


def test_equal_labels_are_not_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = changes_module.decode_labels
    monkeypatch.setattr(
        changes_module, "decode_labels", lambda data: decoded.append(data) or decode(data)
    )
    second = {**images(range(8)), "i5": draw(70)}
    total = compared(store, Run("a", {"p": images(range(8))}), Run("b", {"p": second}))[1]
    assert len(decoded) == 2 and total.images_changed == 1
    labels = np.stack([label for label in second.values() if label is not None])
    assert total.counts.sum(axis=0).tolist() == [(labels == i).sum() for i in (0, 1, 2, 255)]


def test_a_table_that_both_publish_is_not_read(store: Store) -> None:
    parts = {"p": images(range(4)), "q": images(range(4, 7))}
    first, second = Run("a", parts, table="t"), Run("b", {"p": parts["p"]}, table="t")
    for run in (first, second):
        run.write(store)
    for name in parts:
        store.remove(part_file("predictions/t", name))
    work = compare_runs(store, "a", "b")
    assert not work.pairings
    assert (work.start.images, work.start.new, work.start.gone) == (4, 0, 3)
    assert work.start.changed_share == 0.0
    assert against(work.start, work.classes, "a")["per_class"] == {}


def test_an_image_that_was_replaced_is_compared_within_one_table(store: Store) -> None:
    whole = {"p": images(range(3)), "q": {"i1": draw(60)}}
    first = Run("a", {"p": whole["p"]}, table="t")
    second = Run("b", whole, table="t", dead={"p": (1,)})
    work, total = compared(store, first, second)
    assert [(p.after.name, p.images) for p in work.pairings] == [("q", 1)]
    assert (total.images, total.images_changed, total.pixels) == (3, 1, 16)
    (image,) = total.most
    assert total.changed_share == pytest.approx(image.share / 3, abs=1e-6), "read or not"


def test_an_image_of_another_size_has_changed(store: Store) -> None:
    second = {"i0": draw(0, side=5), "i1": draw(1)}
    total = compared(store, Run("a", {"p": images(range(2))}), Run("b", {"p": second}))[1]
    assert (total.images_changed, total.resized, total.pixels) == (1, 1, 16)
    assert [(image.image_id, image.share) for image in total.most] == [("i0", 1.0)]


def test_the_most_changed_images_are_named_first(store: Store) -> None:
    base = np.zeros((10, 10), np.uint8)
    second: dict[str, Label] = {}
    for number in range(MOST_CHANGED + 10):
        label = base.copy()
        label.ravel()[: number + 1] = 1
        second[f"i{number:03}"] = label
    ids = [*second]
    first = {name: base for name in ids}
    cut = {"p": ids[:7], "q": ids[7:20], "r": ids[20:]}
    a, b = (
        Run(run, {part: {i: side[i] for i in inside} for part, inside in cut.items()})
        for run, side in (("a", first), ("b", second))
    )
    total = compared(store, a, b)[1]
    expected = [(f"i{n:03}", (n + 1) / 100) for n in range(MOST_CHANGED + 9, 9, -1)]
    assert [(image.image_id, pytest.approx(image.share)) for image in total.most] == expected
    assert {image.after for image in total.most} == {"q", "r"}


def test_metrics_tell_pixels_of_each_class(store: Store) -> None:
    old, new = np.array([[0, 1, 1, 255]], np.uint8), np.array([[1, 1, 255, 2]], np.uint8)
    work, total = compared(store, Run("a", {"p": {"i": old}}), Run("b", {"p": {"i": new}}))
    assert against(total, work.classes, "a") == {
        "run": "a",
        "images": 1,
        "images_changed": 1,
        "images_new": 0,
        "images_gone": 0,
        "pixels": 4,
        "pixels_changed": 3,
        "changed_share": 0.75,
        "per_class": {
            "background": {"before": 1, "after": 0, "both": 0},
            "cat": {"before": 2, "after": 2, "both": 1},
            "dog": {"before": 0, "after": 1, "both": 0},
        },
    }


def test_runs_without_a_common_image_have_no_share(store: Store) -> None:
    first, second = Run("a", {"p": images(range(2))}), Run("b", {"q": images(range(2), "j")})
    work, total = compared(store, first, second)
    assert (total.images, total.new, total.gone, total.changed_share) == (0, 2, 2, None)
    assert not work.pairings


def test_runs_that_cannot_be_compared_are_told(store: Store) -> None:
    for run_id in ("a", "b"):
        Run(run_id, {"p": images(range(2))}).write(store)
    record = store.read_json(run_file("a"))
    store.write_json(run_file("a"), {**record, "steps": []})
    with pytest.raises(StoreError, match="ended with its cues and publishes no labels"):
        compare_runs(store, "a", "b")
    store.write_json(run_file("a"), {**record, "config": {}})
    with pytest.raises(StoreError, match="is of another version of dcsp"):
        compare_runs(store, "a", "b")
    with pytest.raises(StoreError, match=r"has no runs/gone/run\.json"):
        compare_runs(store, "gone", "b")
    many = tuple(f"class {number}" for number in range(253))
    Run("c", {"p": images(range(2))}, classes=many).write(store)
    with pytest.raises(StoreError, match="have 255 classes together"):
        compare_runs(store, "c", "b")


def test_changes_of_other_classes_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="cannot add"):
        Changes.empty(2) + Changes.empty(3)
