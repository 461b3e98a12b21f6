"""Names and errors of strangers on the report's page."""

from dataclasses import replace

import pytest

from dcsp.report.data import ReportData
from dcsp.report.page import build_report
from tests.report.conftest import card
from tests.strangers import HOSTILE, assert_harmless


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_shows_names_and_errors_as_text(name: str, run: ReportData) -> None:
    text = HOSTILE[name].encode(errors="replace").decode()
    item = replace(card(text), error=text, split=text)
    page = build_report(replace(run, run_id="demo-1", corpus=text, store=text, gallery=[item]))
    assert_harmless(page.replace("\n", " "))  # a line of a page is none of a log
    assert page.count("<script") == 1 and "<img src=x" not in page
