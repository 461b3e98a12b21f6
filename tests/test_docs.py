"""Docs lead somewhere: their links to files, and the sections of docs/method.md that code names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
MODULES = sorted([*ROOT.glob("dcsp/**/*.py"), *ROOT.glob("jobs/**/*.py")])
NUMBER = r"\d(?:\.\d)?"
REFERENCE = re.compile(rf"\bmethod ({NUMBER}(?:(?:, |–){NUMBER})*)")
SECTION = re.compile(rf"^##+ ({NUMBER}) ", re.MULTILINE)


def by_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_path)
def test_links_to_files_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:dcsp|jobs|tests|docs)/[\w/.-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_sections_of_the_method_that_code_names_are_there() -> None:
    sections = set(SECTION.findall((ROOT / "docs/method.md").read_text(encoding="utf-8")))
    for path in MODULES:
        for named in REFERENCE.findall(path.read_text(encoding="utf-8")):
            numbers = set(re.split(", |–", named))
            assert numbers <= sections, f"{by_path(path)}: method {named}"
