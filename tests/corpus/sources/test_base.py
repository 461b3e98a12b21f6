"""What every source agrees upon."""

from __future__ import annotations

import pytest

from dcsp.corpus.sources.base import is_valid_id


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        *(("2007_000032", True), ("cats/räv 1.x", True), ("a" * 240, True)),
        *(("", False), ("/a", False), ("a/", False), ("a//b", False), ("..", False)),
        *(("a/../b", False), ("./a", False), ("a\\b", False), ("C:a", False), ("a\x00", False)),
        *(("a\n", False), (" a", False), ("a" * 241, False), ("a/" * 600 + "a", False)),
    ],
)
def test_ids_are_confined_file_names(name: str, valid: bool) -> None:
    assert is_valid_id(name) is valid
