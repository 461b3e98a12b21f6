"""What changed from night to night, also after images were erased and runs removed."""

from __future__ import annotations

import numpy as np
import pytest

from dcsp.errors import StoreError
from dcsp.evaluation.pairing import compare_runs
from dcsp.inspection.changed import count_changes
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import metrics_file, part_file, run_file
from dcsp.tables.snapshot import Snapshot
from dcsp.upkeep.collection import collect, remove
from dcsp.upkeep.erasure import erase
from tests.upkeep.conftest import Nights


def labels_of(store: Store, run_id: str) -> dict[str, np.ndarray]:
    """Image id → published label, of every image of a run that is not dead."""
    record = store.read_json(run_file(run_id))
    (directory,) = (s["directory"] for s in record["steps"] if s["role"] == "predictions")
    found = {}
    for part in Snapshot.load(store, record["snapshot"]).parts:
        for row, told in enumerate(store.read_table(part_file(directory, part.name)).to_pylist()):
            if row not in part.dead and told["label"]:
                found[told["image_id"]] = decode_labels(told["label"])
    return found


def test_the_second_night_tells_what_it_changed_of_the_first(nights: Nights) -> None:
    first, second = (labels_of(nights.store, run_id) for run_id in nights.runs)
    both = first.keys() & second.keys()
    assert (len(both), len(second.keys() - both), len(first.keys() - both)) == (6, 1, 1)
    told = nights.store.read_json(metrics_file(nights.runs[1]))["against"]
    assert told["run"] == nights.runs[0]
    assert (told["images"], told["images_new"], told["images_gone"]) == (6, 1, 1)
    changed = {name: int((first[name] != second[name]).sum()) for name in both}
    assert told["images_changed"] == sum(map(bool, changed.values()))
    assert told["pixels_changed"] == sum(changed.values())
    assert told["pixels"] == sum(first[name].size for name in both) == 6 * 40 * 48


def test_an_erased_image_is_neither_compared_nor_gone(nights: Nights) -> None:
    erase(nights.store, ["photo_a"], lambda: None)
    total = count_changes(nights.store, *nights.runs).total
    assert (total.images, total.new, total.gone) == (5, 1, 1)
    assert "photo_a" not in {image.image_id for image in total.most}


def test_a_run_that_was_removed_cannot_be_compared(nights: Nights) -> None:
    remove(nights.store, collect(nights.store, keep=1, days=0), lambda: None)
    with pytest.raises(StoreError, match="has no runs/"):
        compare_runs(nights.store, *nights.runs)
