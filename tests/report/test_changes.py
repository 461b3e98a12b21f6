"""The page of two runs: whole, escaped, and of the images that changed."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcsp.evaluation.changes import Changes
from dcsp.evaluation.pairing import compare_runs
from dcsp.report.changes import TwoRuns, build_changes_page
from dcsp.report.earlier import ChangedLabels, Earlier, changed_images
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import CORPUS
from tests.evaluation.two_runs import Run
from tests.images.pictures import encode
from tests.report.pages import Reader, assert_self_contained
from tests.strangers import HOSTILE, assert_harmless

BEFORE = np.array([[0, 1, 1, 255]] * 4, np.uint8)
AFTER = np.array([[0, 2, 1, 0]] * 4, np.uint8)


def two_runs(**values: object) -> TwoRuns:
    """Two runs of two classes, with one image that changed."""
    counts = np.zeros((4, 4), np.int64)
    counts[0, 0], counts[1, 2], counts[1, 1], counts[3, 0] = 4, 4, 4, 4
    image = ChangedLabels("folder/i", 0.5, [1], np.full((4, 4, 3), 90, np.uint8), BEFORE, AFTER)
    told: dict[str, object] = {
        "ids": ("first-1", "second-2"),
        "store": "./store",
        "classes": ("cat", "dog"),
        "changes": Changes(counts, images=3, images_changed=1, new=2),
        "images": [image],
        "differences": {
            "settings": [("seed", "1", "2")],
            "corpus": [],
            "figures": [("val.miou", "1.0", "2.0", "+1.0")],
        },
    }
    return TwoRuns(**(told | values))  # type: ignore[arg-type]


def test_the_page_says_all_and_needs_nothing_from_elsewhere() -> None:
    page = build_changes_page(two_runs())
    assert_self_contained(page)
    text = Reader(page).text.replace("\u2009", " ")
    for words in (
        "first-1 → second-2",
        "Images changed1of 3 images that both label",
        "Pixels changed50.0 %8 of 16",
        "New images2",
        "catdog450.0",
        "ignoredbackground450.0",
        "cat84−50.050.0",
        "val.miou1.02.0+1.0",
    ):
        assert words in text, words
    assert "Images gone" not in text and "Corpus" not in text


def test_runs_that_are_alike_have_a_short_page() -> None:
    page = build_changes_page(two_runs(changes=Changes.empty(2), images=[], differences={}))
    assert_self_contained(page)
    text = Reader(page).text
    assert "From class to class" not in text and "Most changed" not in text and "–" in text


def test_what_cannot_be_compared_is_told_beside_the_image() -> None:
    larger = np.zeros((8, 8), np.uint8)
    base = two_runs().images[0]
    images = [
        ChangedLabels("resized", 1.0, [], base.image, BEFORE, larger),
        ChangedLabels("gained", 1.0, [], base.image, None, AFTER),
    ]
    reader = Reader(build_changes_page(two_runs(images=images)))
    assert "of another size" in reader.text and "first-1 has no label of it" in reader.text
    assert "changed" not in [v for n, v in reader.attributes if n == "alt"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strangers_are_text(name: str) -> None:
    text = HOSTILE[name].encode(errors="replace").decode()
    image = ChangedLabels(text, 0.5, [1], np.zeros((4, 4, 3), np.uint8), BEFORE, AFTER)
    page = build_changes_page(
        two_runs(
            images=[image], classes=(text, "dog"), differences={"settings": [(text, text, text)]}
        )
    )
    assert_harmless(page.replace("\n", " "))
    assert page.count("<script") == 1 and "<img src=x" not in page


def test_of_some_parts_the_images_alone_are_looked_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Run("a", {"p": {"i0": BEFORE, "i1": BEFORE}, "r": {"i2": BEFORE}}).write(store)
    Run("b", {"q": {"i0": AFTER, "i2": AFTER}, "s": {"i1": AFTER, "new": AFTER}}).write(store)
    whole, some = compare_runs(store, "a", "b"), compare_runs(store, "a", "b", {"q"})
    (pairing,) = some.pairings
    assert pairing in whole.pairings and len(whole.pairings) == 2
    assert (pairing.after.name, [part.name for part in pairing.before]) == ("q", ["p", "r"])
    assert (some.start.new, some.start.gone, some.part) == (0, 0, whole.part)
    found = Earlier(store, some)
    assert found.of("q", ["i2", "i0"]) == Earlier(store, whole).of("q", ["i2", "i0"]) != {}
    assert found.of("s", ["i1"]) == {}


def test_images_are_read_by_the_ids_of_both_runs_classes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    picture = np.full((4, 4, 3), 120, np.uint8)
    ids = [f"i{number}" for number in range(3)]
    first = Run("a", {"p": dict.fromkeys(ids, BEFORE)}, classes=("cat", "dog"))
    second = Run("b", {"q": {"i0": BEFORE, "i2": AFTER, "i1": None}}, classes=("cow", "cat"))
    for run in (first, second):
        run.write(store)
    rows = [
        {
            "image_id": image_id,
            "height": 4,
            "width": 4,
            "tags": [2, 3],  # a distractor is no class of the labels
            "split": "train",
            "uri": "",
            "sha256": "",
            "bytes": encode(Image.fromarray(picture), "PNG"),
            "status": "ok",
        }
        for image_id in ("i0", "i2", "i1")
    ]
    store.write_table(part_file(CORPUS_DIRECTORY, "q"), pa.Table.from_pylist(rows, CORPUS))
    work = compare_runs(store, "a", "b")
    total = reduce(Changes.__add__, map(work.part, work.pairings), work.start)
    found = changed_images(store, work, total.most)
    assert [image.image_id for image in found] == [image.image_id for image in total.most]
    assert work.classes == ("cow", "cat", "dog")
    by_id = {image.image_id: image for image in found}
    assert by_id["i1"].after is None and by_id["i0"].tags == [2]
    assert np.array_equal(by_id["i0"].image, picture)
    cat, cow, dog = 2, 1, 3
    assert by_id["i2"].before.tolist() == [[0, cat, cat, 255]] * 4
    assert by_id["i2"].after.tolist() == [[0, cat, cow, 0]] * 4
    assert dog not in by_id["i2"].after
