"""Every planted fault becomes the row that it should, and nothing else becomes one."""

from __future__ import annotations

from pathlib import Path

from dcsp.corpus.batches import select_rows
from dcsp.corpus.reading import read_rows
from tests.dirty.planted import MAPPER, outcomes, plant, source_of


def test_every_fault_becomes_its_row(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    expected = plant(root)
    assert outcomes(root) == expected


def test_good_images_are_as_large_as_they_look(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    plant(root)
    source, settings = source_of(root)
    corpus, _, _ = read_rows(source, select_rows(source.list_rows().rows)[0], MAPPER, settings)
    sizes = {row["image_id"]: (row["height"], row["width"]) for row in corpus.to_pylist()}
    assert sizes["ribbon"] == (1, 20_000)
    assert sizes["turned"] == (64, 48)
    odd = {"ribbon", "turned", "one_pixel"}
    assert {size for name, size in sizes.items() if name not in odd} == {(48, 64)}
