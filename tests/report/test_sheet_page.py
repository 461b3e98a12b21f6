"""Names and errors of strangers on the sheet of an image, and a sheet of nearly nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dcsp.report.sheet import Area, Sheet, TableRow
from dcsp.report.sheet_page import build_sheet_page, draw_sheet, sheet_lines
from tests.report.pages import Reader, assert_self_contained
from tests.strangers import HOSTILE, assert_harmless


def sheet(text: str) -> Sheet:
    """A sheet on which every word is a stranger's."""
    return Sheet(
        image_id=text,
        run_id=text,
        facts=[("source", text)],
        classes=(text,),
        tags=[1],
        panels={text: np.zeros((30, 20, 3), np.uint8)},
        rows=[TableRow("cues_phase0", "cues/ab", "error", text)],
        rule=text,
        areas=[Area(1, 0.5, 0.5)],
        trust=(0.5, [text]),
        notes=[text],
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_words_of_strangers_are_text_and_stay_on_their_line(name: str) -> None:
    text = HOSTILE[name].encode(errors="replace").decode()
    page = build_sheet_page(sheet(text))
    assert_harmless(page.replace("\n", " "))
    assert "<script" not in page and "<img src=x" not in page
    for line in sheet_lines(sheet(text)):
        assert "\n" not in line
        assert_harmless(line)
    draw_sheet(sheet(text))


def test_an_image_of_which_nothing_was_made_still_has_a_sheet() -> None:
    bare = Sheet("i", "r", [], (), [], {"image": np.zeros((1, 500, 3), np.uint8)}, [], "", [], None,
                 [])  # fmt: skip
    page = build_sheet_page(bare)
    assert_self_contained(page)
    assert "Published label" not in Reader(page).text
    with Image.open(io.BytesIO(draw_sheet(bare))) as picture:
        assert picture.width == 1384
