"""A folder of images, as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images, one of them hidden, and a text; no table of tags."""
    for name in ("a.jpg", "pets/b.PNG", "pets/deep/c.webp", ".hidden/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path
